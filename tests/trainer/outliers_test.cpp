#include "trainer/outliers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace vkqat {
namespace {

TEST(OutlierWatch, FindsWhatStandsOutAboveAndNothingElse) {
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0, 0.05);
    OutlierWatch watch(6);
    int alarms = 0;
    // A loss that falls from 8 to 3 with noise. 6 deviations of normal noise are exceeded once in 10^9 times.
    for (int step = 0; step < 2000; step++) alarms += watch.add(3 + 5 * std::exp(-step / 100.0) + normal(random)).has_value();
    EXPECT_EQ(alarms, 0);
    EXPECT_FALSE(watch.add(2.0)) << "a fall is no news";
    const std::optional<Outlier> found = watch.add(5.0);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->value, 5.0);
    EXPECT_NEAR(found->median, 3, 0.1);
    EXPECT_NEAR(found->deviations, 2 / 0.05, 15);  // the deviation is estimated from 64 values
    for (int i = 0; i < 5; i++) EXPECT_TRUE(watch.add(5.0 + i)) << "some outliers hide no others";
    EXPECT_FALSE(watch.add(3.0));
}

TEST(OutlierWatch, NeedsSomeValuesAndFiniteOnes) {
    OutlierWatch watch(6);
    for (size_t i = 0; i < OutlierWatch::least; i++) EXPECT_FALSE(watch.add(i == 5 ? 1e9 : 1)) << i;
    EXPECT_FALSE(watch.add(std::numeric_limits<double>::quiet_NaN()));
    EXPECT_FALSE(watch.add(std::numeric_limits<double>::infinity()));
    EXPECT_EQ(watch.values().size(), OutlierWatch::least);
    EXPECT_FALSE(watch.add(1.05)) << "without any noise 1 % counts as a deviation";
    EXPECT_TRUE(watch.add(1.07));
    OutlierWatch never(0);
    never.restore(watch.values());
    EXPECT_FALSE(never.add(1e9));
}

TEST(OutlierWatch, GoesOnFromItsValues) {
    OutlierWatch whole(6), resumed(6);
    std::mt19937 random(4);
    std::lognormal_distribution<double> heavy(0, 1);
    int alarms = 0;
    for (int i = 0; i < 500; i++) {
        const double value = heavy(random);
        OutlierWatch next(6);
        next.restore(whole.values());
        const auto a = whole.add(value), b = next.add(value);
        ASSERT_EQ(a.has_value(), b.has_value());
        alarms += a.has_value();
        ASSERT_EQ(whole.values(), next.values());
    }
    EXPECT_GT(alarms, 0);
    EXPECT_EQ(whole.values().size(), OutlierWatch::window);
}

}  // namespace
}  // namespace vkqat
