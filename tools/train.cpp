// vkqat train: from a configuration to checkpoints.
#include "trainer/train.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "runtime/support/error.h"
#include "tools/command.h"

namespace vkqat {
namespace {

// The first SIGINT, SIGTERM or SIGUSR1 (the one that mpirun hands on) asks the run to end behind the current step; the second
// one, of any kind, ends the program. A signal handler can reach nothing but a static.
volatile sig_atomic_t stop_requested = 0;

void request_stop(int signal) {
    if (stop_requested) {
        ::signal(signal, SIG_DFL);
        ::raise(signal);  // takes effect when the handler returns
        return;
    }
    stop_requested = 1;
    constexpr char text[] = "\nfinishing the current step, then a checkpoint; the same signal again ends the program at once\n";
    [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, text, sizeof text - 1);
}

void catch_stop_signals() {
    struct sigaction action {};
    action.sa_handler = request_stop;
    action.sa_flags = SA_RESTART;
    for (int signal : {SIGINT, SIGTERM, SIGUSR1}) ::sigaction(signal, &action, nullptr);
}

// A word as a shell takes it.
std::string shell_word(const std::string& word) {
    constexpr std::string_view plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.,/:+@%";
    if (!word.empty() && word.find_first_not_of(plain) == word.npos) return word;
    std::string quoted = "'";
    for (char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
    return quoted + "'";
}

// Lines for good, and on a terminal one that is written over.
class Screen {
public:
    TrainOutput output() {
        TrainOutput to;
        to.line = [this](const std::string& text) {
            clear();
            std::printf("%s\n", text.c_str());
            std::fflush(stdout);
        };
        if (::isatty(STDOUT_FILENO))
            to.progress = [this](const std::string& text) {
                std::printf("\r\033[K%s", text.c_str());
                std::fflush(stdout);
                pending_ = true;
            };
        return to;
    }
    ~Screen() { clear(); }

private:
    void clear() {
        if (pending_) std::printf("\r\033[K");
        pending_ = false;
    }
    bool pending_ = false;
};

struct Arguments {
    std::string config;
    bool resume = false;
    std::shared_ptr<std::string> device;
};

std::string resume_command(const Arguments& arguments, const std::vector<std::string>& overrides, int ranks) {
    std::string command = (ranks > 1 ? fmt::format("mpirun -n {} ", ranks) : "") + "vkqat train " + shell_word(arguments.config);
    for (const std::string& text : overrides) command += " " + shell_word(text);
    if (!arguments.device->empty()) command += " --device " + shell_word(*arguments.device);
    return command + " --resume";
}

void run(const Arguments& arguments, const std::vector<std::string>& overrides) {
    const TrainConfig config = load_train_config(arguments.config, overrides);
    const std::unique_ptr<Communicator> ranks = connect_ranks();
    Screen screen;
    TrainOptions options{
        .resume = arguments.resume, .resume_command = resume_command(arguments, overrides, ranks->size()), .ranks = ranks.get()};
    options.stop = [caught = false]() mutable {
        if (!caught) catch_stop_signals();  // not before: until the first step the program simply ends
        caught = true;
        return stop_requested != 0;
    };
    auto work = [&] {
        Gpu gpu(*arguments.device, uint32_t(ranks->node_rank()));
        train(gpu.device, config, options, ranks->first() ? screen.output() : TrainOutput());
        ranks->leave();
    };
    if (ranks->size() == 1)
        work();
    else
        in_context(fmt::format("rank {}", ranks->rank()), work);
}

}  // namespace

void add_train_command(CLI::App& app) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* command = app.add_subcommand("train", "train a model, in full precision or quantized");
    command->add_option("config", arguments->config, "configuration (TOML); assets/configs has one for each flavor")->required();
    command->add_flag("--resume", arguments->resume, "go on from the latest checkpoint in job.dump_folder, with the same bits");
    arguments->device = add_device_option(*command);
    command->allow_extras();
    command->footer(
        "--section.key=value overrides a key of the configuration.\n"
        "Ctrl-C ends the run behind the current step with a checkpoint; a second one ends it at once.\n"
        "`mpirun -n N vkqat train ...` trains on N devices, one process each; SIGUSR1 to mpirun ends that run with a "
        "checkpoint.\n\n"
        "Examples:\n"
        "  vkqat train assets/configs/quickstart.toml\n"
        "  vkqat train my.toml --training.steps=200 --quantization.target_bit_width=1 --job.dump_folder=outputs/1bit\n"
        "  vkqat train my.toml --resume\n"
        "  mpirun -n 2 vkqat train my.toml\n\n"
        "Keys, with their defaults:\n\n" +
        train_config_help());
    command->callback([arguments, command] { run(*arguments, command->remaining()); });
}

}  // namespace vkqat
