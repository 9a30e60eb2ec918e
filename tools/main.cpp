// vkqat: the command-line program. Each subcommand lies in a file of its own; errors become one line on stderr and the exit code.
#include <filesystem>
#include <new>

#include "tools/command.h"
#include "tools/console.h"

namespace {

int report(std::string message, int exit_code) {
    while (!message.empty() && message.back() == '\n') message.pop_back();
    std::fflush(stdout);
    std::fprintf(stderr, "vkqat: %s\n", message.c_str());
    return exit_code;
}

// "vkqat eval" where that subcommand was begun, else "vkqat".
std::string command_name(const CLI::App& app) {
    std::string name = "vkqat";
    for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
        at = at->get_subcommands().front();
        name += " " + at->get_name();
    }
    return name;
}

}  // namespace

int main(int argc, char** argv) {
    using namespace vkqat;
    try {
        CLI::App app{"Trains, packs and runs Llama models with few-bit weights, on any GPU with Vulkan.", "vkqat"};
        app.set_version_flag("--version", "vkqat " VKQAT_VERSION);
        app.require_subcommand(1);
        app.get_formatter()->column_width(34);
        app.footer(
            "`vkqat SUBCOMMAND --help` has options and examples. Exit code: 0; 1 where something failed; 2 for wrong usage.");
        add_devices_command(app);
        add_sample_corpus_command(app);
        add_tokenizer_command(app);
        add_train_command(app);
        add_export_command(app);
        add_inspect_command(app);
        add_eval_command(app);
        add_generate_command(app);
        add_chat_command(app);
        add_logits_command(app);
        add_bench_command(app);
        try {
            app.parse(argc, argv);
            flush_stdout();
        } catch (const CLI::ParseError& e) {
            if (e.get_exit_code() == 0) {  // help or version
                app.exit(e);
                flush_stdout();
                return 0;
            }
            std::string command = command_name(app);
            if (argc < 2) return report("a subcommand is missing (`vkqat --help` lists them)", 2);
            return report(fmt::format("{} (see `{} --help`)", e.what(), command), 2);
        }
        return 0;
    } catch (const UsageError& e) {
        return report(e.what(), 2);
    } catch (const Error& e) {
        return report(e.what(), 1);
    } catch (const std::bad_alloc&) {
        return report("not enough main memory for this", 1);
    } catch (const std::filesystem::filesystem_error& e) {
        return report(fmt::format("{}: {}", e.path1().string(), e.code().message()), 1);
    } catch (const std::exception& e) {
        return report(fmt::format("unexpected failure: {}", e.what()), 1);
    }
}
