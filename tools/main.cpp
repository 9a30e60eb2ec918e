// vkqat: the command-line program. Each subcommand lies in a file of its own; errors become one line on stderr and the exit code.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <new>

#include "tools/child.h"
#include "tools/command.h"
#include "tools/console.h"
#include "tools/profile.h"

namespace {

int report(std::string message, int exit_code) {
    while (!message.empty() && message.back() == '\n') message.pop_back();
    for (size_t at; (at = message.find('\n')) != message.npos;) {  // a list becomes one line
        size_t end = std::min(message.find_first_not_of(" \n", at), message.size());
        message.replace(at, end - at, at > 0 && message[at - 1] == ':' ? " " : "; ");
    }
    std::fflush(stdout);
    std::fprintf(stderr, "vkqat: %s\n", message.c_str());
    return exit_code;
}

// Help without what CLI11 says of types and ranges: a value is shown by its name, MODEL or FILE.
class Help : public CLI::Formatter {
public:
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
        std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
        for (size_t at; (at = text.find("\n\n\n")) != text.npos;) text.erase(at, 1);
        return text;
    }
    std::string make_option_name(const CLI::Option* option, bool positional) const override {
        return positional ? value_name(option) : CLI::Formatter::make_option_name(option, false);
    }
    std::string make_option_opts(const CLI::Option* option) const override {
        if (option->get_positional() || option->get_type_size() == 0) return "";
        return " " + value_name(option) + (option->get_required() ? " (needed)" : "");
    }
    std::string make_option_usage(const CLI::Option* option) const override {
        return option->get_required() ? value_name(option) : "[" + value_name(option) + "]";
    }

private:
    static std::string value_name(const CLI::Option* option) {
        std::string name = option->get_type_name();
        if (option->get_positional() && name == "TEXT") {
            name = option->get_name(true);
            for (char& c : name) c = char(std::toupper(static_cast<unsigned char>(c)));
        }
        return name;
    }
};

// What was wrong with the command line, and where the help for it is.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error) {
    std::string name = "vkqat", message = error.what();
    const CLI::App* at = &app;
    for (; !at->get_subcommands().empty(); name += " " + at->get_name()) at = at->get_subcommands().front();
    std::vector<std::string> rest = at->remaining();
    bool wants_subcommand = at->get_require_subcommand_min() > 0;
    if (!rest.empty() && rest[0].starts_with('-'))
        message = "there is no option " + rest[0];
    else if (wants_subcommand)
        message = rest.empty() ? "a subcommand is missing" : fmt::format("there is no subcommand '{}'", rest[0]);
    else if (!rest.empty())
        message = fmt::format("'{}' is one argument too many", rest[0]);
    return fmt::format("{} (see `{} --help`)", message, name);
}

}  // namespace

int vkqat::run_program(int argc, char** argv) {
    try {
        CLI::App app{"Trains, packs and runs Llama models with few-bit weights, on any GPU with Vulkan.", "vkqat"};
        app.set_version_flag("--version", "vkqat " VKQAT_VERSION);
        app.require_subcommand(1);
        auto help = std::make_shared<Help>();
        help->column_width(34);
        app.formatter(help);
        app.footer(
            "`vkqat SUBCOMMAND --help` has options and examples. Exit code: 0; 1 where something failed; 2 for wrong usage.");
        add_devices_command(app);
        add_sample_corpus_command(app);
        add_tokenizer_command(app);
        add_train_command(app);
        add_export_command(app);
        add_quantize_command(app);
        add_inspect_command(app);
        add_eval_command(app);
        add_generate_command(app);
        add_generate_data_command(app);
        add_chat_command(app);
        add_logits_command(app);
        add_bench_command(app);
        add_plot_command(app);
        add_profile_command(app);
        try {
            app.parse(argc, argv);
            flush_stdout();
        } catch (const CLI::ParseError& e) {
            if (e.get_exit_code() == 0) {  // help or version
                app.exit(e);
                flush_stdout();
                return 0;
            }
            return report(usage_message(app, e), 2);
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

int main(int argc, char** argv) { return vkqat::run_program(argc, argv); }
