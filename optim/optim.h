// All optimizers, schedules, gradient clipping and the training loop, in one include.
#pragma once
#include "weft/optim/centralize.h"
#include "weft/optim/clip.h"
#include "weft/optim/grad_scaler.h"
#include "weft/optim/optimizer_list.h"
#include "weft/optim/registry.h"
#include "weft/optim/schedule.h"
#include "weft/optim/training/lr_finder.h"
#include "weft/optim/training/trainer.h"
