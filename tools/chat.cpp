// vkqat chat: a conversation, on a terminal or through a pipe.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/support/files.h"
#include "runtime/text/chat_encoder.h"
#include "runtime/text/utf8.h"
#include "tools/console.h"
#include "tools/model.h"

namespace vkqat {
namespace {

// Ctrl-C that nobody has looked at yet; a second one ends the program at once, whatever it is doing. A signal handler can reach
// nothing but a static.
volatile sig_atomic_t interrupted = 0;

void on_interrupt(int) {
    if (interrupted) ::_exit(130);
    interrupted = 1;
}

// Without SA_RESTART, so that waiting for a line ends with EINTR.
void catch_interrupts() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, nullptr);
}

enum class Input { line, end, interrupt };

// Lines of stdin, of bounded length.
class LineReader {
public:
    Input next(std::string& line) {
        while (true) {
            if (size_t end = held_.find('\n'); end != held_.npos || (at_end_ && !held_.empty())) {
                line = held_.substr(0, end);
                held_.erase(0, end == held_.npos ? end : end + 1);
                if (line.ends_with('\r')) line.pop_back();
                return Input::line;
            }
            if (at_end_) return Input::end;
            if (held_.size() > max_line) fail("a line on stdin has more than {} bytes", max_line);
            char buffer[4096];
            ssize_t n = interrupted ? (errno = EINTR, -1) : ::read(STDIN_FILENO, buffer, sizeof buffer);
            if (n < 0 && errno == EINTR) {
                if (!interrupted) continue;
                interrupted = 0;
                return Input::interrupt;
            }
            if (n < 0) fail("cannot read stdin: {}", std::strerror(errno));
            if (n == 0) at_end_ = true;
            held_.append(buffer, size_t(n));
        }
    }

private:
    static constexpr size_t max_line = size_t(1) << 20;
    std::string held_;
    bool at_end_ = false;
};

struct Options {
    std::string model;
    std::optional<std::string> system;
    SamplingOptions sampling;
    CacheOption cache;
    std::shared_ptr<std::string> device;
    int64_t context = 0, max_tokens = 1024;
};

constexpr const char* help_text =
    "/reset      begin a new conversation\n"
    "/save FILE  write the conversation as JSON\n"
    "/exit       end the program (also Ctrl-D)\n"
    "Ctrl-C stops an answer; twice, it ends the program.\n";

class Chat {
public:
    Chat(const Options& options, Session& session, ChatEncoder encoder, std::vector<int32_t> ends, bool terminal)
        : options_(options), session_(session), encoder_(std::move(encoder)), ends_(std::move(ends)), terminal_(terminal) {
        reset();
    }

    void reset() {
        messages_.clear();
        if (options_.system) messages_.push_back({"system", utf8_lossy(*options_.system)});
    }

    void answer(const std::string& text) {
        messages_.push_back({"user", utf8_lossy(text)});
        std::vector<int32_t> prompt;
        if (!make_prompt(prompt)) return;

        Stopwatch time;
        std::string reply;
        Utf8Stream stream;
        int64_t count = 0;
        bool ended = false;
        auto take = [&](int32_t id) {
            if (interrupted) return false;
            ended = std::find(ends_.begin(), ends_.end(), id) != ends_.end();
            if (ended) return false;
            std::string piece = stream.push(piece_text(encoder_.tokenizer(), id));
            reply += piece;
            print(displayable(piece));
            return ++count < options_.max_tokens;
        };
        if (take(session_.prefill(prompt))) session_.decode(options_.max_tokens - 1, take);
        std::string rest = stream.finish();
        reply += rest;
        print(displayable(rest) + "\n");
        messages_.push_back({"assistant", reply});

        bool stopped = interrupted;
        if (stopped) {
            interrupted = 0;
            since_stop_ = Stopwatch();
        }
        const char* why = stopped                        ? "stopped; "
                          : ended                        ? ""
                          : count >= options_.max_tokens ? "--max-tokens reached; "
                                                         : "the context is full; ";
        if (terminal_ || *why)
            std::fprintf(stderr, "[%s%lld tokens, %s/s; context %zu of %lld]\n", why, static_cast<long long>(count),
                         human_rate(double(count) / time.seconds()).c_str(),
                         std::min(session_.tokens().size(), size_t(session_.context())),
                         static_cast<long long>(session_.context()));
    }

    // Commands; a mistake in one does not end the conversation.
    void save(const std::string& file) {
        if (file.empty()) {
            std::fprintf(stderr, "/save needs the name of a file\n");
            return;
        }
        nlohmann::ordered_json result{{"model", options_.model}, {"messages", nlohmann::ordered_json::array()}};
        for (const ChatMessage& message : messages_)
            result["messages"].push_back({{"role", message.role}, {"content", message.content}});
        try {
            if (file != saved_ && std::filesystem::exists(file)) fail("{}: exists already", file);
            write_text_file(file, result.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
            saved_ = file;
            std::fprintf(stderr, "%zu messages in %s\n", messages_.size(), file.c_str());
        } catch (const std::exception& e) {
            std::fprintf(stderr, "not saved: %s\n", e.what());
        }
    }

    bool stopped_just_now() const { return since_stop_ && since_stop_->seconds() < 1; }

private:
    // The conversation as ids. Where it leaves no room for an answer, the oldest turns are dropped; false if the last message
    // alone is too long, which then is taken back.
    bool make_prompt(std::vector<int32_t>& prompt) {
        int64_t room = std::min(options_.max_tokens, std::max<int64_t>(1, session_.context() / 4));
        size_t first = options_.system ? 1 : 0, dropped = 0;
        while (true) {
            prompt = encoder_.prompt(messages_);
            if (int64_t(prompt.size()) + room <= session_.context()) break;
            if (messages_.size() <= first + 1) {
                std::fprintf(
                    stderr,
                    "The message takes %zu tokens, but the context has %lld, of which %lld are kept for the answer: send a "
                    "shorter one.\n",
                    prompt.size(), static_cast<long long>(session_.context()), static_cast<long long>(room));
                messages_.pop_back();
                return false;
            }
            messages_.erase(messages_.begin() + ptrdiff_t(first), messages_.begin() + ptrdiff_t(first + 2));
            dropped++;
        }
        if (dropped)
            std::fprintf(stderr, "[the context of %lld tokens is full: the oldest %s forgotten; /reset begins anew]\n",
                         static_cast<long long>(session_.context()),
                         dropped == 1 ? "turn is" : fmt::format("{} turns are", dropped).c_str());
        return true;
    }

    const Options& options_;
    Session& session_;
    ChatEncoder encoder_;
    std::vector<int32_t> ends_;
    bool terminal_;
    std::vector<ChatMessage> messages_;  // the system's, then user and assistant in turn
    std::string saved_;                  // file that /save may replace
    std::optional<Stopwatch> since_stop_;
};

std::string trimmed(const std::string& text) {
    size_t begin = text.find_first_not_of(" \t"), end = text.find_last_not_of(" \t");
    return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

void converse(Chat& chat, bool terminal) {
    LineReader lines;
    std::string line;
    bool asked_to_end = false;
    while (true) {
        if (terminal) std::fprintf(stderr, "> ");
        Input input = lines.next(line);
        if (input == Input::end) {
            if (terminal) std::fprintf(stderr, "\n");
            return;
        }
        if (input == Input::interrupt) {
            std::fprintf(stderr, "\n");
            if (asked_to_end || chat.stopped_just_now() || !terminal) return;
            asked_to_end = true;
            std::fprintf(stderr, "(Ctrl-C once more ends the program)\n");
            continue;
        }
        asked_to_end = false;
        std::string text = trimmed(line);
        if (text.empty()) continue;
        std::string command = text.substr(0, text.find_first_of(" \t"));
        if (command == "/exit" || command == "/quit") return;
        if (command == "/help") {
            std::fprintf(stderr, "%s", help_text);
        } else if (command == "/reset") {
            chat.reset();
            std::fprintf(stderr, "a new conversation\n");
        } else if (command == "/save") {
            chat.save(trimmed(text.substr(command.size())));
        } else if (command.starts_with('/')) {
            std::fprintf(stderr, "there is no %s\n%s", displayable(utf8_lossy(command)).c_str(), help_text);
        } else {
            chat.answer(line);
        }
    }
}

void run(const Options& o) {
    std::filesystem::path directory = o.model;
    check_model_directory(directory);
    LlamaConfig config = read_llama_config(directory);
    GenerationConfig generation = read_generation_config(directory);
    SamplingOptions::Result sampling = o.sampling.resolve(generation);
    Tokenizer tokenizer = need_tokenizer(directory, config);
    ChatTemplate chat_template = load_chat_template(directory, tokenizer);
    std::vector<int32_t> ends = end_ids(generation, tokenizer);
    for (const char* token : {"<|eot_id|>", "<|im_end|>"})
        if (std::optional<TokenId> id = tokenizer.id(token)) ends.push_back(*id);
    if (chat_template.source.empty() && !tokenizer.id("<|start_header_id|>"))
        std::fprintf(stderr,
                     "vkqat: the model has no chat template, and its tokenizer none of Llama 3's tokens for turns: it was "
                     "hardly made for conversations (`vkqat generate` continues a text)\n");

    Gpu gpu(*o.device);
    announce_cpu(gpu);
    const SessionOptions options = o.cache.session(gpu.device, o.context);
    LlamaWeights weights = load_weights(gpu, directory, sequences_options(options));
    Session session(weights, options);
    session.set_sampler(sampling.parameters);
    bool terminal = is_terminal(stdin);
    if (terminal)
        std::fprintf(stderr, "%s on %s; %s; context of %lld tokens. /help lists the commands.\n", model_name(directory).c_str(),
                     gpu.device.capabilities().name.c_str(), sampling.description.c_str(),
                     static_cast<long long>(session.context()));
    Chat chat(o, session, ChatEncoder(tokenizer, chat_template), std::move(ends), terminal);
    catch_interrupts();
    converse(chat, terminal);
}

}  // namespace

void add_chat_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("chat", "talk with a model");
    auto o = std::make_shared<Options>();
    command->add_option("MODEL", o->model, "directory of the model, or a .gguf file")->required()->type_name("MODEL");
    command->add_option("--system", o->system, "what the model is told before the conversation")->type_name("TEXT");
    command->add_option("--max-tokens", o->max_tokens, "of an answer (1024)")
        ->check(between(1, int64_t(1) << 30))
        ->type_name("N");
    command->add_option("--context", o->context, "tokens that are remembered (4096, or what the model allows)")
        ->check(between(8, int64_t(1) << 24))
        ->type_name("N");
    o->device = add_device_option(*command);
    o->cache.add(*command);
    o->sampling.add(*command);
    command->footer("In the conversation:\n" + std::string(help_text) +
                    "\nExamples:\n  vkqat chat MODEL --system \"You answer in one sentence.\"\n"
                    "  echo \"What color is the sky?\" | vkqat chat MODEL --greedy");
    command->callback([=] { run(*o); });
}

}  // namespace vkqat
