// Rows of `vkqat bench`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/graph/executable.h"

namespace vkqat {

// name, and the median, fastest and slowest of the measurements in microseconds.
nlohmann::json timing(const std::string& name, std::vector<double> seconds);

// The nodes of one kind together, all layers. Profiled nodes do not overlap and each pays for its timestamp, so the sum exceeds a
// step.
nlohmann::json by_node(const std::vector<ProfileRow>& rows);

}  // namespace vkqat
