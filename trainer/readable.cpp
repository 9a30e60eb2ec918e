#include "trainer/readable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace vkqat {

std::string metric(double value) {
    constexpr const char* units[] = {"", " k", " M", " G", " T", " P"};
    size_t unit = 0;
    for (; std::abs(value) >= 1000 && unit + 1 < std::size(units); unit++) value /= 1000;
    return fmt::format("{:.{}f}{}", value, value >= 100 || unit == 0 ? 0 : value >= 10 ? 1 : 2, units[unit]);
}

std::string duration_text(double seconds) {
    auto s = int64_t(std::llround(std::max(seconds, 0.0)));
    if (s < 60) return fmt::format("{}s", s);
    if (s < 3600) return fmt::format("{}m {:02}s", s / 60, s % 60);
    return fmt::format("{}h {:02}m", s / 3600, s / 60 % 60);
}

}  // namespace vkqat
