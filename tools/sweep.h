// vkqat profile sweep and merge: models of several sizes, methods and bits, one after another, as results that grow.
#pragma once

#include <CLI/CLI.hpp>

namespace vkqat {

void add_sweep_commands(CLI::App& profile);

}  // namespace vkqat
