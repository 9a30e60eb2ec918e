// Values that stand out of those before them: a loss or gradient norm that a bad batch or too high a learning rate made.
#pragma once

#include <optional>
#include <vector>

namespace vkqat {

struct Outlier {
    double value = 0, median = 0;
    double deviations = 0;  // how many robust standard deviations the value lies above the median
};

// Compares with the median of the last values in units of 1.4826 times their median absolute deviation, which for normal values
// is the standard deviation and which outliers hardly move; at least 1 % of the median counts as one deviation, so that a curve
// without noise gives no alarm. Only what lies above counts: a falling loss is no news.
class OutlierWatch {
public:
    static constexpr size_t window = 64, least = 16;  // values that are compared with, at most and at least

    explicit OutlierWatch(double threshold) : threshold_(threshold) {}  // in deviations; 0: never
    // Judges the value and takes it in. A value that is not finite is none.
    std::optional<Outlier> add(double value);

    // What checkpoints keep: the values, oldest first.
    const std::vector<double>& values() const { return values_; }
    void restore(std::vector<double> values);

private:
    double threshold_;
    std::vector<double> values_;
};

}  // namespace vkqat
