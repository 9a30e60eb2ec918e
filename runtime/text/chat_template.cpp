#include "runtime/text/chat_template.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <minja/minja.hpp>

#include "runtime/formats/gguf.h"
#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "runtime/text/isolated.h"
#include "runtime/text/json_input.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace fs = std::filesystem;

namespace {

constexpr size_t max_template_bytes = 256 * 1024, max_prompt_bytes = size_t(16) << 20;

std::string trim(const std::string& text) {
    const size_t first = text.find_first_not_of(" \t\r\n\f\v");
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n\f\v") - first + 1);
}

// Llama 3's model card. Contents are trimmed as in the published chat_template.
std::string render_llama3(const ChatTemplate& chat, std::span<const ChatMessage> messages, bool add_generation_prompt) {
    auto header = [](const std::string& role) { return "<|start_header_id|>" + role + "<|end_header_id|>\n\n"; };
    std::string prompt = chat.bos_token.empty() ? "<|begin_of_text|>" : chat.bos_token;
    for (const ChatMessage& message : messages) prompt += header(message.role) + trim(message.content) + "<|eot_id|>";
    if (add_generation_prompt) prompt += header("assistant");
    return prompt;
}

// Jinja's lstrip_blocks: spaces between the beginning of a line and a block or comment are removed. minja's own removes those
// in front of an expression too, which Jinja keeps.
std::string lstrip_blocks(std::string_view source) {
    std::string out;
    for (size_t i = 0; i < source.size();) {
        const size_t open = std::min(source.find('{', i), source.size());
        const std::string_view tag = source.substr(open, 2);
        const bool block = tag == "{%" || tag == "{#";
        if (!block && tag != "{{") {
            out += source.substr(i, open + 1 - i);
            i = open + 1;
            continue;
        }
        out += source.substr(i, open - i);
        if (block && source.substr(open + 2, 1) != "+") {
            const size_t text_end = out.find_last_not_of(" \t") + 1;
            if (text_end == 0 || out[text_end - 1] == '\n') out.resize(text_end);
        }
        // The end of the tag, which does not stand inside a string.
        const std::string_view closing = tag == "{%" ? "%}" : tag == "{#" ? "#}" : "}}";
        size_t end = open + 2;
        char quote = 0;
        for (; end < source.size(); ++end) {
            if (quote) {
                if (source[end] == '\\')
                    ++end;
                else if (source[end] == quote)
                    quote = 0;
            } else if (source.substr(end, 2) == closing) {
                break;
            } else if (tag != "{#" && (source[end] == '"' || source[end] == '\'')) {
                quote = source[end];
            }
        }
        end = std::min(end + 2, source.size());
        out += source.substr(open, end - open);
        i = end;
    }
    return out;
}

std::shared_ptr<minja::TemplateNode> parse(const std::string& source) {
    try {
        // As transformers sets up Jinja: trim_blocks, lstrip_blocks, no trailing newline.
        return minja::Parser::parse(lstrip_blocks(source),
                                    {.trim_blocks = true, .lstrip_blocks = false, .keep_trailing_newline = false});
    } catch (const std::exception& e) {
        std::string message = e.what();  // "reason at row 1, column 2:" and the lines around
        message = message.substr(0, message.find('\n'));
        if (message.ends_with(':')) message.pop_back();
        throw std::runtime_error(message);
    }
}

minja::Value strftime_now(const std::shared_ptr<minja::Context>&, minja::ArgumentsValue& args) {
    args.expectArgs("strftime_now", {1, 1}, {0, 0});
    const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    std::tm local{};
    ::localtime_r(&now, &local);
    char text[256];
    return std::string(text, std::strftime(text, sizeof text, args.args[0].get<std::string>().c_str(), &local));
}

// What a template sees of a conversation.
std::shared_ptr<minja::Context> context_of(const ChatTemplate& chat, std::span<const ChatMessage> messages,
                                           bool add_generation_prompt) {
    auto list = nlohmann::ordered_json::array();
    for (const ChatMessage& m : messages) list.push_back({{"role", utf8_lossy(m.role)}, {"content", utf8_lossy(m.content)}});
    auto context = minja::Context::make(nlohmann::ordered_json{{"messages", std::move(list)},
                                                               {"add_generation_prompt", add_generation_prompt},
                                                               {"bos_token", chat.bos_token},
                                                               {"eos_token", chat.eos_token}});
    context->set("strftime_now", minja::Value::callable(strftime_now));
    return context;
}

std::string render(minja::TemplateNode& root, const ChatTemplate& chat, std::span<const ChatMessage> messages,
                   bool add_generation_prompt) {
    try {
        return root.render(context_of(chat, messages, add_generation_prompt));
    } catch (const std::exception& e) {
        const std::string message = e.what();
        throw std::runtime_error(message.substr(0, message.find('\n')));
    }
}

size_t common_length(std::string_view a, std::string_view b) {
    return size_t(std::mismatch(a.begin(), a.begin() + ptrdiff_t(std::min(a.size(), b.size())), b.begin()).first - a.begin());
}

using Render = std::function<std::string(std::span<const ChatMessage>, bool add_generation_prompt)>;

RenderedTurns turns_of(std::span<const ChatMessage> messages, const Render& render) {
    RenderedTurns turns;
    size_t done = 0;  // of the text, that earlier turns fix
    for (size_t i = 0; i < messages.size(); i++) {
        if (messages[i].role != "assistant") continue;
        const std::string prompt = render(messages.first(i), true), text = render(messages.first(i + 1), false);
        size_t begin = common_length(prompt, text);
        while (begin > 0 && begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) begin--;
        // What the prompt has on top of the messages, a template may leave out of a turn that is over.
        const bool whole = begin == prompt.size() || begin >= render(messages.first(i), false).size();
        if (!whole || begin < done || common_length(turns.text, text) < turns.text.size())
            fail("the text of the first {} messages is not where the text of {} begins, so answers cannot be told from prompts",
                 i, i + 1);
        turns.cuts.push_back(begin);
        turns.cuts.push_back(text.size());
        turns.text = text;
        done = text.size();
    }
    if (turns.cuts.empty()) fail("there is no message of the assistant");
    return turns;
}

// Lists of numbers and texts on their way from a child process, which may be hostile by then.
void put_number(std::string& to, size_t value) {
    for (int i = 0; i < 8; i++) to += char(value >> (8 * i) & 0xff);
}
void put_text(std::string& to, std::string_view text) {
    put_number(to, text.size());
    to += text;
}
size_t take_number(std::string_view& from) {
    if (from.size() < 8) fail("chat template: its process gave a damaged result");
    size_t value = 0;
    for (int i = 0; i < 8; i++) value |= size_t(static_cast<unsigned char>(from[size_t(i)])) << (8 * i);
    from.remove_prefix(8);
    return value;
}
std::string_view take_text(std::string_view& from) {
    const size_t size = take_number(from);
    if (size > from.size()) fail("chat template: its process gave a damaged result");
    const std::string_view text = from.substr(0, size);
    from.remove_prefix(size);
    return text;
}

RenderedTurns take_turns(std::string_view& from) {
    RenderedTurns turns;
    turns.text = take_text(from);
    turns.problem = utf8_lossy(take_text(from));
    if (!utf8_valid(turns.text)) turns.problem = "the chat template made a text that is no UTF-8";
    for (size_t n = take_number(from), last = 0; n > 0; n--) {
        turns.cuts.push_back(take_number(from));
        if (turns.cuts.back() < last || turns.cuts.back() > turns.text.size())
            fail("chat template: its process gave a damaged result");
        last = turns.cuts.back();
    }
    if (turns.cuts.size() % 2 != 0) fail("chat template: its process gave a damaged result");
    if (!turns.problem.empty()) return {.text = {}, .cuts = {}, .problem = turns.problem};
    return turns;
}

RenderedTurns caught(const std::function<RenderedTurns()>& work) {
    try {
        return work();
    } catch (const std::exception& e) {
        return {.text = {}, .cuts = {}, .problem = e.what()};
    }
}

// One process for all of them; where it fails, the halves are tried, so that one bad conversation costs only itself.
void render_isolated(const ChatTemplate& chat, std::span<const std::vector<ChatMessage>> conversations,
                     std::vector<RenderedTurns>& results) {
    const size_t before = results.size();
    try {
        const std::string answer =
            run_isolated("chat template",
                         [&] {
                             auto root = parse(chat.source);
                             std::string out;
                             for (const auto& messages : conversations) {
                                 const RenderedTurns turns = caught([&] {
                                     return turns_of(messages, [&](std::span<const ChatMessage> some, bool generate) {
                                         return render(*root, chat, some, generate);
                                     });
                                 });
                                 put_text(out, turns.text);
                                 put_text(out, turns.problem);
                                 put_number(out, turns.cuts.size());
                                 for (size_t cut : turns.cuts) put_number(out, cut);
                             }
                             return out;
                         },
                         {.result_bytes = 4 * max_prompt_bytes});
        std::string_view rest = answer;
        for (size_t i = 0; i < conversations.size(); i++) results.push_back(take_turns(rest));
    } catch (const Error& e) {
        results.resize(before);
        if (conversations.size() == 1) {
            results.push_back({.text = {}, .cuts = {}, .problem = e.what()});
            return;
        }
        const size_t half = conversations.size() / 2;
        render_isolated(chat, conversations.first(half), results);
        render_isolated(chat, conversations.subspan(half), results);
    }
}

void check_size(const std::string& source) {
    if (source.size() > max_template_bytes)
        fail("chat template: {} bytes are too many (at most {})", source.size(), max_template_bytes);
}

std::string pick_template(const nlohmann::json& value) {
    if (value.is_null()) return {};
    if (value.is_string()) return value.get<std::string>();
    if (!value.is_array()) fail("\"chat_template\": expected a string or a list, found {}", value.type_name());
    for (const auto& named : value)
        if (value.size() == 1 || json_string(named, "name") == "default") return json_string(named, "template");
    fail("\"chat_template\": a list of {} without one named \"default\"", value.size());
}

}  // namespace

const char* const llama3_chat_template =
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

ChatTemplate load_chat_template(const fs::path& directory, const Tokenizer& tokenizer) {
    ChatTemplate chat;
    if (tokenizer.bos()) chat.bos_token = tokenizer.token(*tokenizer.bos());
    if (tokenizer.eos()) chat.eos_token = tokenizer.token(*tokenizer.eos());
    std::error_code error;
    fs::path file = directory / "chat_template.jinja";
    if (is_gguf(directory)) {
        file = directory;
        chat.source = utf8_lossy(GgufFile(file).string("tokenizer.chat_template").value_or(""));
    } else if (fs::is_regular_file(directory, error)) {
        file = directory;
        chat.source = read_text_file(file, max_template_bytes);
        if (trim(chat.source).empty()) fail("{}: the chat template is empty", file.string());
    } else if (fs::exists(file, error)) {
        chat.source = read_text_file(file, max_template_bytes);
    } else if (file = directory / "tokenizer_config.json"; fs::exists(file, error)) {
        in_context(file.string(), [&] {
            chat.source = pick_template(json_get(parse_json(read_text_file(file, size_t(64) << 20)), "chat_template"));
        });
    }
    if (!chat.source.empty()) {
        in_context(file.string(), [&] {
            check_size(chat.source);
            run_isolated("chat template", [&] { return parse(chat.source) ? std::string() : std::string(); });
        });
    }
    return chat;
}

std::string render_chat(const ChatTemplate& chat, std::span<const ChatMessage> messages, bool add_generation_prompt) {
    size_t size = 0;
    for (const ChatMessage& message : messages) size += message.role.size() + message.content.size();
    if (size > max_prompt_bytes) fail("a conversation of {} bytes is too long (at most {})", size, max_prompt_bytes);
    if (chat.source.empty()) return render_llama3(chat, messages, add_generation_prompt);
    check_size(chat.source);
    return run_isolated("chat template", [&] { return render(*parse(chat.source), chat, messages, add_generation_prompt); });
}

std::vector<RenderedTurns> render_turns(const ChatTemplate& chat, std::span<const std::vector<ChatMessage>> conversations) {
    std::vector<RenderedTurns> results;
    results.reserve(conversations.size());
    if (chat.source.empty()) {
        for (const auto& messages : conversations)
            results.push_back(caught([&] {
                return turns_of(messages, [&](std::span<const ChatMessage> some, bool generate) {
                    return render_llama3(chat, some, generate);
                });
            }));
        return results;
    }
    check_size(chat.source);
    // As many at a time as need little time and memory.
    constexpr size_t most = 64, most_bytes = size_t(1) << 20;
    for (size_t first = 0; first < conversations.size();) {
        size_t count = 0, bytes = 0;
        while (first + count < conversations.size() && count < most && bytes < most_bytes)
            for (const ChatMessage& message : conversations[first + count++])
                bytes += message.role.size() + message.content.size();
        render_isolated(chat, conversations.subspan(first, count), results);
        first += count;
    }
    return results;
}

}  // namespace vkqat
