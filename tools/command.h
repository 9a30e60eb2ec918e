// What a subcommand is: a function that adds itself to the program. main.cpp lists them and turns errors into exit codes: 2 for
// wrong usage, 1 for what failed, each with one line on stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "runtime/vulkan/device.h"

namespace vkqat {

// The device that `--device` names, with its instance. VKQAT_VALIDATION=1 turns on the validation layers.
struct Gpu {
    // `which`: of several devices that the selector means.
    explicit Gpu(const std::string& selector, uint32_t which = 0);
    Instance instance;
    Device device;
};

// Adds `--device` to a subcommand.
std::shared_ptr<std::string> add_device_option(CLI::App& command);
// Checks a number on the command line.
CLI::Validator between(int64_t lowest, int64_t highest);
// "NVIDIA H200 (discrete GPU)"; for a CPU device it says that there is no GPU.
std::string device_line(const Device& device);

void add_bench_command(CLI::App& app);
void add_chat_command(CLI::App& app);
void add_devices_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_generate_data_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_logits_command(CLI::App& app);
void add_quantize_command(CLI::App& app);
void add_plot_command(CLI::App& app);
void add_sample_corpus_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_train_command(CLI::App& app);

}  // namespace vkqat
