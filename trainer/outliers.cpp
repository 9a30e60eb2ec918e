#include "trainer/outliers.h"

#include <algorithm>
#include <cmath>

namespace vkqat {
namespace {

double median(std::vector<double> values) {
    auto middle = values.begin() + ptrdiff_t(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

}  // namespace

std::optional<Outlier> OutlierWatch::add(double value) {
    if (!std::isfinite(value)) return std::nullopt;
    std::optional<Outlier> outlier;
    if (threshold_ > 0 && values_.size() >= least) {
        const double center = median(values_);
        std::vector<double> distances;
        for (double v : values_) distances.push_back(std::abs(v - center));
        const double deviation = std::max({1.4826 * median(distances), 0.01 * std::abs(center), 1e-300});
        if (value > center + threshold_ * deviation) outlier = {value, center, (value - center) / deviation};
    }
    values_.push_back(value);
    if (values_.size() > window) values_.erase(values_.begin());
    return outlier;
}

void OutlierWatch::restore(std::vector<double> values) {
    values_ = std::move(values);
    if (values_.size() > window) values_.erase(values_.begin(), values_.end() - ptrdiff_t(window));
}

}  // namespace vkqat
