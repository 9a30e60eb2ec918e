#include "evaluation/scaling_fit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/support/scratch_folder.h"

namespace vkqat::test {
namespace {

const ScalingLaw truth{.A = 420, .alpha = 0.34, .B = 380, .beta = 0.28, .E = 1.7, .gamma = 2.2};

std::vector<ScalingPoint> made(double noise) {
    std::mt19937 random(3);
    std::normal_distribution<double> normal;
    std::vector<ScalingPoint> points;
    for (double n : {2e7, 1e8, 5e8})
        for (double d : {4e8, 1.3e9, 4e9})
            for (double bits : {1.0, 2.0, 4.0, 16.0})
                points.push_back({n, d, bits, truth.loss(n, d, bits) + noise * normal(random)});
    return points;
}

TEST(ScalingFit, FindsTheLawThatMadeTheResults) {
    ScalingFit fit = fit_scaling(made(0));
    EXPECT_LT(fit.rms, 1e-6);
    EXPECT_NEAR(fit.law.alpha, truth.alpha, 1e-3);
    EXPECT_NEAR(fit.law.beta, truth.beta, 1e-3);
    EXPECT_NEAR(fit.law.gamma, truth.gamma, 1e-2);
    EXPECT_NEAR(fit.law.E, truth.E, 1e-2);
    EXPECT_NEAR(fit.law.A / truth.A, 1, 0.05);
}

TEST(ScalingFit, ResidualsAreTheNoise) {
    ScalingFit fit = fit_scaling(made(0.01));
    // 36 results, 6 unknowns: about sqrt(30 / 36) of the noise is left
    EXPECT_NEAR(fit.rms, 0.0091, 0.003);
    EXPECT_NEAR(fit.law.gamma, truth.gamma, 0.3);
    for (double d : {1e9, 1e10}) EXPECT_NEAR(fit.law.loss(2e8, d, 3), truth.loss(2e8, d, 3), 0.05);
}

TEST(ScalingFit, WithoutDifferentTokensTheirTermIsInE) {
    std::vector<ScalingPoint> points;
    for (const ScalingPoint& p : made(0))
        if (p.tokens == 4e9) points.push_back(p);
    ScalingFit fit = fit_scaling(points);
    EXPECT_FALSE(fit.tokens_vary);
    EXPECT_FALSE(fit.beta_known);
    EXPECT_EQ(fit.law.B, 0);
    EXPECT_NEAR(fit.law.E, truth.E + truth.B * std::pow(4e9, -truth.beta), 1e-2);
    EXPECT_LT(fit.rms, 1e-6);
}

TEST(ScalingFit, BestBitsOfABudgetAreThoseOfTheLaw) {
    const std::vector<double> candidates{1, 2, 3, 4, 8, 16};
    for (double bytes : {1e7, 1e9}) {
        BestBits best = best_bits(truth, bytes, 1e10, candidates, 0.25);
        for (double bits : candidates) EXPECT_LE(best.loss, truth.loss(8 * bytes / (bits + (bits < 16 ? 0.25 : 0)), 1e10, bits));
        EXPECT_NEAR(best.parameters * (best.bits + 0.25) / 8, bytes, 1e-6 * bytes);
    }
    EXPECT_CONTAINS(error_of([] { best_bits(truth, 1, 1, {}, 0); }), "no candidates");
}

TEST(ScalingFit, WhatCannotBeFittedIsAnError) {
    EXPECT_CONTAINS(error_of([] { fit_scaling({}); }), "found 0");
    std::vector<ScalingPoint> points = made(0);
    EXPECT_CONTAINS(error_of([&] { fit_scaling({points[0], points[5], points[10]}); }), "6 unknowns");
    points[3].loss = -1;
    EXPECT_CONTAINS(error_of([&] { fit_scaling(points); }), "above 0");
}

}  // namespace
}  // namespace vkqat::test
