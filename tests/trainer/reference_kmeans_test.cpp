// lloyd_max.safetensors: INPUT.SCALE.samples, and per number of bits INPUT.SCALE.bN.{init, centroids, centroids_fisher, mse,
// mse_kmeanspp}; INPUT.fisher is the weight of each sample.
#include <cstdlib>
#include <filesystem>
#include <regex>

#include "runtime/formats/safetensors.h"
#include "tests/support/reference.h"
#include "tests/trainer/kmeans_data.h"

namespace vkqat {
namespace {

struct Reference {
    std::string name;
    std::vector<float> samples, weights, start, centroids, centroids_fisher, kmeanspp;
    double mse;
    int bits;
};

std::vector<Reference> references() {
    std::filesystem::path path = test::reference_folder() / "lloyd_max.safetensors";
    std::vector<Reference> result;
    if (!std::filesystem::exists(path)) return result;
    SafetensorsFile file(path);
    std::regex pattern(R"(((\w+)\.\w+)\.b(\d+)\.init)");
    for (const TensorView& tensor : file.tensors()) {
        std::smatch match;
        if (!std::regex_match(tensor.name, match, pattern)) continue;
        std::string prefix = match[1].str() + ".b" + match[3].str() + ".";
        auto read = [&](const std::string& name) { return read_floats(file.get(name)); };
        result.push_back({prefix, read(match[1].str() + ".samples"), read(match[2].str() + ".fisher"), read(prefix + "init"),
                          read(prefix + "centroids"), read(prefix + "centroids_fisher"), read(prefix + "mse_kmeanspp"),
                          read(prefix + "mse")[0], std::stoi(match[3])});
    }
    return result;
}

test::KmeansCase make_case(const Reference& r) {
    return {.in = int64_t(r.samples.size()),
            .w = r.samples,
            .config = {QuantizerKind::nonlinear, r.bits, 1, 0, ScaleStatistic::none},
            .start = r.start,
            .warm_start = true};
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double largest = 0;
    for (size_t i = 0; i < a.size(); i++) largest = std::max(largest, std::abs(double(a[i]) - b[i]));
    return largest;
}

#define SKIP_WITHOUT_REFERENCES(name)           \
    std::vector<Reference> name = references(); \
    if (name.empty()) GTEST_SKIP() << "lloyd_max.safetensors is missing (VKQAT_REFERENCE)"

// The same rule for stopping, but boundaries move bins instead of single samples: an iteration more or less. 1e-3 of the range.
TEST(ReferenceKmeans, FromTheGivenStartTheSameCentroids) {
    SKIP_WITHOUT_REFERENCES(all);
    for (const Reference& r : all) {
        SCOPED_TRACE(r.name);
        std::vector<float> found = test::fit(make_case(r));
        auto [low, high] = std::minmax_element(r.samples.begin(), r.samples.end());
        double difference = largest_difference(found, r.centroids), mse = test::squared_error(r.samples, found);
        if (std::getenv("VKQAT_PRINT"))
            printf("%-22s difference/range %.2e  mse/reference - 1 %.2e\n", r.name.c_str(), difference / (*high - *low),
                   mse / r.mse - 1);
        EXPECT_LE(difference, 1e-3 * (*high - *low));
        EXPECT_NEAR(mse, r.mse, 1e-3 * r.mse);
    }
}

TEST(ReferenceKmeans, FromTheGivenStartTheSameCentroidsWithWeights) {
    SKIP_WITHOUT_REFERENCES(all);
    for (const Reference& r : all) {
        SCOPED_TRACE(r.name);
        test::KmeansCase c = make_case(r);
        c.second_moment = r.weights;
        c.correction = 3.7f;  // cancels: weights are divided by their mean
        std::vector<float> found = test::fit(c);
        auto [low, high] = std::minmax_element(r.samples.begin(), r.samples.end());
        double difference = largest_difference(found, r.centroids_fisher);
        double mse = test::squared_error(r.samples, found, r.weights),
               expected = test::squared_error(r.samples, r.centroids_fisher, r.weights);
        if (std::getenv("VKQAT_PRINT"))
            printf("%-22s difference/range %.2e  mse/reference - 1 %.2e\n", r.name.c_str(), difference / (*high - *low),
                   mse / expected - 1);
        EXPECT_LE(difference, 1e-3 * (*high - *low));
        EXPECT_NEAR(mse, expected, 1e-3 * expected);
    }
}

TEST(ReferenceKmeans, FromItsOwnStartNoWorseThanTheWorstOfFiveRuns) {
    SKIP_WITHOUT_REFERENCES(all);
    for (const Reference& r : all) {
        SCOPED_TRACE(r.name);
        double worst = *std::max_element(r.kmeanspp.begin(), r.kmeanspp.end());
        for (uint32_t seed : {1u, 2u, 3u}) {
            test::KmeansCase c = make_case(r);
            c.warm_start = false;
            c.seed = seed;
            double mse = test::squared_error(r.samples, test::fit(c));
            if (std::getenv("VKQAT_PRINT")) printf("%-22s seed %u: mse/worst - 1 %.2e\n", r.name.c_str(), seed, mse / worst - 1);
            EXPECT_LE(mse, 1.01 * worst);
        }
    }
}

}  // namespace
}  // namespace vkqat
