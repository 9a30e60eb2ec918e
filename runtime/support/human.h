// Numbers as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace vkqat {

std::string human_bytes(double bytes);       // "1.30 MB"; powers of 1000
std::string human_count(double count);       // "1.30 M", "950"
std::string human_duration(double seconds);  // "3.2 s", "4 min 10 s", "2 h 5 min"
std::string human_rate(double per_second);   // "12,300", "41.3", "0.82"
std::string with_commas(int64_t value);      // "15,328"

}  // namespace vkqat
