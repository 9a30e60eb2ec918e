#include "runtime/support/human.h"

#include <fmt/format.h>

#include <cmath>

namespace vkqat {
namespace {

std::string scaled(double value, const char* const (&units)[5]) {
    int unit = 0;
    while (unit < 4 && value >= 999.5) value /= 1000, unit++;
    int digits = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    return fmt::format("{:.{}f}{}", value, digits, units[unit]);
}

}  // namespace

std::string human_bytes(double bytes) { return scaled(bytes, {" B", " kB", " MB", " GB", " TB"}); }
std::string human_count(double count) { return scaled(count, {"", " k", " M", " G", " T"}); }

std::string human_duration(double seconds) {
    if (!(seconds >= 0)) return "?";
    if (seconds < 0.95) return fmt::format("{:.0f} ms", 1000 * seconds);
    if (seconds < 9.95) return fmt::format("{:.1f} s", seconds);
    if (seconds > 1e7) return "a long time";
    int64_t s = std::llround(seconds);
    if (s < 100) return fmt::format("{} s", s);
    if (s < 3600) return fmt::format("{} min {} s", s / 60, s % 60);
    return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
}

std::string with_commas(int64_t value) {
    std::string text = std::to_string(value);
    for (ptrdiff_t at = ptrdiff_t(text.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) text.insert(size_t(at), ",");
    return text;
}

std::string human_rate(double per_second) {
    if (!std::isfinite(per_second)) return "-";
    if (per_second >= 99.95) return with_commas(std::llround(per_second));
    return fmt::format("{:.{}f}", per_second, per_second >= 9.995 ? 1 : 2);
}

}  // namespace vkqat
