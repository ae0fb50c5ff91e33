#pragma once

namespace weft::app {

/// Prints the catalogue of models, a line each: for people a table, for programs JSON.
int list_models(bool json_lines);

}  // namespace weft::app
