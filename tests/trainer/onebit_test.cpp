// The start of OneBit's layers on the device against that on the CPU in double.
#include "trainer/onebit.h"

#include <cmath>
#include <limits>

#include "tests/support/gpu.h"
#include "tests/support/gradient_check.h"

namespace vkqat {
namespace {

struct OnDevice {
    OnDevice(const std::vector<float>& weight, int64_t out, int64_t in)
        : weights(test::device().allocate(weight.size() * 4, "weights")),
          room(test::device().allocate(weights.bytes(), "room")),
          shape{out, in} {
        test::device().upload(weights, 0, std::as_bytes(std::span(weight)));
    }
    OnebitStart start() const {
        return onebit_start(
            test::device(), [&](Graph& g) { return g.external(weights, 0, shape, DType::f32, "weight"); }, room, "layers.7.down");
    }
    std::vector<float> now() const {
        std::vector<float> values(weights.bytes() / 4);
        test::device().download(weights, 0, std::as_writable_bytes(std::span(values)));
        return values;
    }
    Buffer weights, room;
    Shape shape;
};

TEST(OnebitStart, TheDeviceFindsTheVectorsOfTheCpu) {
    struct Case {
        int64_t out, in;
    };
    for (const auto& [out, in] : {Case{1, 8}, Case{7, 1}, Case{33, 40}, Case{96, 24}, Case{130, 257}}) {
        SCOPED_TRACE(fmt::format("{} x {}", out, in));
        std::vector<float> w = test::normal(out * in, uint32_t(3 + out));
        // Rows and columns of different size, as trained weights have them, and exact zeros.
        for (size_t i = 0; i < w.size(); i++) {
            w[i] *= std::exp(0.3f * float(i % size_t(in) % 5)) * (i / size_t(in) % 3 == 0 ? 4.f : 1.f);
            if (i % 11 == 5) w[i] = 0;
        }
        const OnebitStart expected = onebit_start(w, out, in, "layer");
        const OnDevice device(w, out, in);
        const OnebitStart found = device.start();
        EXPECT_LT(test::relative_error(found.output_factor, expected.output_factor), 2e-5);
        EXPECT_LT(test::relative_error(found.input_factor, expected.input_factor), 2e-5);
        // A difference of two squares: of an exact rank 1 hardly anything is left.
        EXPECT_NEAR(found.error * found.error, expected.error * expected.error, 1e-5);
        EXPECT_TRUE(found.weight.empty());
        EXPECT_EQ(device.now(), expected.weight);
    }
}

TEST(OnebitStart, WeightsWithoutAStartStayAsTheyAre) {
    for (float bad : {0.f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        std::vector<float> w = std::vector<float>(24, bad == 0.f ? 0.f : 1.f);
        w[13] = bad;
        const OnDevice device(w, 3, 8);
        try {
            device.start();
            ADD_FAILURE() << bad;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find("layers.7.down"), std::string::npos);
        }
        EXPECT_EQ(device.now()[0], w[0]);
        EXPECT_THROW(onebit_start(w, 3, 8, "layer"), Error);
    }
}

}  // namespace
}  // namespace vkqat
