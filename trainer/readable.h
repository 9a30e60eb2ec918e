// Numbers for a person to read.
#pragma once

#include <string>

namespace vkqat {

std::string metric(double value);           // 1234567 -> "1.23 M"; a unit may follow
std::string duration_text(double seconds);  // 3725 -> "1h 02m"

}  // namespace vkqat
