// vkqat export: from a checkpoint to a Hugging Face model directory.
#include "trainer/export.h"

#include <cstdio>
#include <map>

#include "runtime/support/error.h"
#include "tools/command.h"

namespace vkqat {
namespace {

struct Arguments {
    std::string from, to, dtype = "bf16";
    bool best = false, five_to_a_byte = false;
};

void run(const Arguments& arguments) {
    const std::map<std::string, DType> dtypes = {{"bf16", DType::bf16}, {"f16", DType::f16}, {"f32", DType::f32}};
    const Checkpoint checkpoint = (arguments.best ? open_best_checkpoint : open_checkpoint)(
        arguments.from, [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); });
    const ExportResult result =
        export_model(checkpoint, arguments.to, {.dtype = dtypes.at(arguments.dtype), .five_to_a_byte = arguments.five_to_a_byte});
    std::printf("%s -> %s\n", checkpoint.folder().c_str(), arguments.to.c_str());
    if (result.packed_layers == 0) {
        std::printf("full precision, %.1f MB in %s\n", double(result.dense_bytes) / 1e6, arguments.dtype.c_str());
    } else {
        std::printf("%llu packed layers (%s): %.1f MB, all else in %s: %.1f MB\n",
                    static_cast<unsigned long long>(result.packed_layers), checkpoint.config().quantization.quantizer.c_str(),
                    double(result.packed_bytes) / 1e6, arguments.dtype.c_str(), double(result.dense_bytes) / 1e6);
    }
    if (result.zero_signs > 0)
        std::printf("%llu weights equal their block's mean; they have no sign and are stored as +\n",
                    static_cast<unsigned long long>(result.zero_signs));
}

}  // namespace

void add_export_command(CLI::App& app) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command = app.add_subcommand("export", "write a checkpoint as a Hugging Face model directory, packed if quantized");
    command->add_option("checkpoint", arguments->from, "a checkpoint (step-...), or a run's dump_folder for its latest one")
        ->required();
    command->add_option("out", arguments->to, "the new directory")->required();
    command->add_option("--dtype", arguments->dtype, "type of what is not packed")
        ->check(CLI::IsMember({"bf16", "f16", "f32"}))
        ->capture_default_str();
    command->add_flag("--best", arguments->best,
                      "the checkpoint with the run's lowest validation loss (checkpoint.keep_best) instead of the latest one");
    command->add_flag("--five-to-a-byte", arguments->five_to_a_byte,
                      "ternary weights (bitnet158, ternary): five to a byte, 1.6 bits instead of 2");
    command->footer(
        "Examples:\n"
        "  vkqat export outputs/sample sample-2bit\n"
        "  vkqat export outputs/sample/checkpoint/step-00000500 at-500 --dtype f32");
    command->callback([arguments] { run(*arguments); });
}

}  // namespace vkqat
