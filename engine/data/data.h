// Everything of weft::data, in one include.
#pragma once

#include "weft/engine/data/augment.h"
#include "weft/engine/data/batch_loader.h"
#include "weft/engine/data/dataset.h"
#include "weft/engine/data/image.h"
#include "weft/engine/data/loader.h"
#include "weft/engine/data/mixing.h"
#include "weft/engine/data/resident.h"
#include "weft/engine/data/sample.h"
#include "weft/engine/data/transforms.h"
#include "weft/engine/data/uploading.h"
