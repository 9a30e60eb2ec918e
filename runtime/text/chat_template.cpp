#include "runtime/text/chat_template.h"

#include <algorithm>
#include <chrono>
#include <ctime>
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

ChatTemplate load_chat_template(const fs::path& directory, const Tokenizer& tokenizer) {
    ChatTemplate chat;
    if (tokenizer.bos()) chat.bos_token = tokenizer.token(*tokenizer.bos());
    if (tokenizer.eos()) chat.eos_token = tokenizer.token(*tokenizer.eos());
    std::error_code error;
    fs::path file = directory / "chat_template.jinja";
    if (is_gguf(directory)) {
        file = directory;
        chat.source = utf8_lossy(GgufFile(file).string("tokenizer.chat_template").value_or(""));
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
    return run_isolated("chat template", [&] {
        auto list = nlohmann::ordered_json::array();
        for (const ChatMessage& m : messages) list.push_back({{"role", utf8_lossy(m.role)}, {"content", utf8_lossy(m.content)}});
        auto context = minja::Context::make(nlohmann::ordered_json{{"messages", std::move(list)},
                                                                   {"add_generation_prompt", add_generation_prompt},
                                                                   {"bos_token", chat.bos_token},
                                                                   {"eos_token", chat.eos_token}});
        context->set("strftime_now", minja::Value::callable(strftime_now));
        auto root = parse(chat.source);
        try {
            return root->render(context);
        } catch (const std::exception& e) {
            const std::string message = e.what();
            throw std::runtime_error(message.substr(0, message.find('\n')));
        }
    });
}

}  // namespace vkqat
