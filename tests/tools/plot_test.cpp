// vkqat plot, with the built program: what a training leaves behind as pictures.
#include <gtest/gtest.h>

#include "runtime/support/files.h"
#include "tests/tools/program.h"
#include "tests/trainer/tiny_run.h"

namespace vkqat::test {
namespace {

TEST(Plot, WeightsOfACheckpointWithTheirCentroids) {
    ScratchFolder folder;
    TrainConfig config = tiny_config(folder.path());
    config.training.steps = 4;
    config.quantization = {.quantizer = "nonlinear", .target_bit_width = 2, .block_dim_2 = 16, .qat_start_step = 2};
    const ProgramResult trained = run_on_device({"train", folder.write("run.toml", to_toml(config)).string()});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
    for (const std::string& source : {config.job.dump_folder, (config.checkpoint_folder() / "step-00000004").string()}) {
        const std::string picture = folder / "weights.svg";
        const ProgramResult plot = run_program({"plot", "weights", source, "--out", picture});
        ASSERT_EQ(plot.exit_code, 0) << plot.err;
        const std::string svg = read_text_file(picture, 1 << 20);
        EXPECT_CONTAINS(svg, "step 4");
        EXPECT_CONTAINS(svg, "4 centroids");
        EXPECT_CONTAINS(svg, "weight / scale of its block");
    }
    const ProgramResult wrong =
        run_program({"plot", "weights", config.job.dump_folder, "--layer", "model.norm", "--out", folder / "weights.svg"});
    EXPECT_EQ(wrong.exit_code, 1);
    EXPECT_CONTAINS(wrong.err, "expected such as model.layers.");
}

}  // namespace
}  // namespace vkqat::test
