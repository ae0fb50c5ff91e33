// The safetensors file format (https://github.com/huggingface/safetensors#format): 8 bytes of header length,
// a JSON header, the raw little-endian data.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "weft/engine/tensor.h"

namespace weft {

/// Named tensors in a fixed order.
using StateDict = std::vector<std::pair<std::string, Tensor>>;

/// The tensor of that name in `dict`, or an undefined one.
Tensor find(const StateDict& dict, std::string_view name);
/// The same names with copies of the tensors: what they hold now, whatever becomes of them.
StateDict clone(const StateDict& dict);

/// Writes the tensors and string metadata. The file appears whole or not at all: it is written beside its
/// name, synced, and renamed over it. Throws Error where that fails (unwritable folder, full disk), leaving
/// an older file as it was.
void save_safetensors(const std::string& path, const StateDict& tensors,
                      const std::map<std::string, std::string>& metadata = {});

/// Reads a file; `metadata`, where given, receives its string metadata. Throws Error on a file that is
/// missing, truncated, or not a well-formed safetensors file of dtypes that weft knows.
StateDict load_safetensors(const std::string& path, std::map<std::string, std::string>* metadata = nullptr);

}  // namespace weft
