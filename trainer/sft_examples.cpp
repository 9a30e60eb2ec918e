#include "trainer/sft_examples.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/error.h"
#include "runtime/support/hash.h"
#include "trainer/tokenizer_files.h"

namespace vkqat {
namespace {

using nlohmann::json;

// What is found, for a message.
std::string found(const json& value) {
    return value.is_string() ? fmt::format("the string \"{}\"", printable(value.get<std::string>(), 40))
                             : std::string(value.type_name());
}

const json* member(const json& object, const char* key) {
    auto at = object.find(key);
    return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::string text_of(const json& object, const char* key, bool needed = true) {
    const json* value = member(object, key);
    if (!value && !needed) return {};
    if (!value || !value->is_string()) fail("expected a string \"{}\", found {}", key, value ? found(*value) : "none");
    return value->get<std::string>();
}

std::string content_of(const json& message) {
    const json* content = member(message, "content");
    if (!content || !content->is_array()) return text_of(message, "content");
    std::string text;
    for (const json& part : *content) {
        if (!part.is_object()) fail("a list as \"content\" must hold objects, found {}", found(part));
        if (const std::string type = text_of(part, "type"); type != "text")
            fail("\"content\" of type \"{}\" cannot be learnt, expected \"text\"", printable(type, 40));
        text += text_of(part, member(part, "text") ? "text" : "value");
    }
    return text;
}

bool weight_of(const json& message, const std::string& role) {
    const json* weight = member(message, "weight");
    if (!weight) weight = member(message, "loss_weight");
    if (!weight) return role == "assistant";
    if (!weight->is_number() || (weight->get<double>() != 0 && weight->get<double>() != 1))
        fail("the weight of a message must be 0 or 1, found {}", printable(weight->dump(), 40));
    const bool trained = weight->get<double>() == 1;
    if (trained && role != "assistant")
        fail("a message of role \"{}\" has the weight 1, but only the assistant's can be learnt", printable(role, 40));
    return trained;
}

void add(SftExample& example, std::string role, std::string content, bool trained) {
    example.conversation.messages.push_back({std::move(role), std::move(content)});
    example.conversation.trained.push_back(trained);
}

void read_messages(const json& messages, SftExample& example) {
    if (!messages.is_array()) fail("expected a list as \"messages\", found {}", found(messages));
    for (size_t i = 0; i < messages.size(); ++i)
        in_context(fmt::format("message {}", i + 1), [&] {
            const json& message = messages[i];
            if (!message.is_object()) fail("expected an object with \"role\" and \"content\", found {}", found(message));
            const std::string role = text_of(message, "role");
            add(example, role, content_of(message), weight_of(message, role));
        });
}

void read_alpaca(const json& object, SftExample& example) {
    if (const std::string system = text_of(object, "system", false); !system.empty()) add(example, "system", system, false);
    if (const json* history = member(object, "history")) {
        if (!history->is_array()) fail("expected a list as \"history\", found {}", found(*history));
        for (const json& turn : *history) {
            if (!turn.is_array() || turn.size() != 2 || !turn[0].is_string() || !turn[1].is_string())
                fail("\"history\" must hold lists of two strings, question and answer, found {}", found(turn));
            add(example, "user", turn[0].get<std::string>(), false);
            add(example, "assistant", turn[1].get<std::string>(), true);
        }
    }
    std::string question = text_of(object, "instruction");
    if (const std::string input = text_of(object, "input", false); !input.empty()) question += "\n" + input;
    add(example, "user", question, false);
    add(example, "assistant", text_of(object, "output"), true);
}

bool is_pair(const json& value) { return value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string(); }

}  // namespace

SftExample parse_sft_example(std::string_view text) {
    const json value = parse_json(text, "the example");
    SftExample example;
    if (value.is_array()) {
        const json& pair = value.size() == 1 ? value[0] : value;
        if (!is_pair(pair)) fail("a list must be [[prompt, continuation]], two strings, found {} values", value.size());
        example.prompt = pair[0].get<std::string>();
        example.continuation = pair[1].get<std::string>();
        if (example.continuation->empty()) fail("the continuation is empty");
        return example;
    }
    if (!value.is_object())
        fail("expected an object with \"messages\" or \"instruction\", or [[prompt, continuation]], found {}", found(value));
    if (const json* messages = member(value, "messages")) {
        read_messages(*messages, example);
    } else if (member(value, "instruction")) {
        read_alpaca(value, example);
    } else {
        std::string keys;
        for (const auto& [key, unused] : value.items())
            if (keys.size() < 100) keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", printable(key, 40));
        fail("expected \"messages\" or \"instruction\", found the keys {}", keys.empty() ? "(none)" : keys);
    }
    const auto& [messages, trained] = example.conversation;
    for (size_t i = 0; i < messages.size(); ++i)
        if (trained[i] && messages[i].content.empty()) fail("message {}: the answer is empty", i + 1);
    if (std::find(trained.begin(), trained.end(), true) == trained.end()) fail("there is no message of the assistant to learn");
    return example;
}

TextEncoder sft_encoder(const ChatEncoder& chat, const std::filesystem::path& tokenizer, const SftOptions& options) {
    TextEncoder encoder = text_encoder(chat.tokenizer(), tokenizer);
    const std::string& source = chat.chat_template().source;
    encoder.digest += fmt::format("chat template {} {:08x}, seq_len {}, prompts {}\n", source.size(),
                                  checksum(std::as_bytes(std::span(source))), options.seq_len, options.train_on_prompts);
    encoder.bos_id = encoder.eos_id = -1;
    encoder.vocab_size *= 2;
    encoder.encode_examples = [chat, options](std::span<const std::string_view> texts) {
        const auto most = size_t(options.seq_len) + 1;
        std::vector<TextEncoder::Encoded> results(texts.size());
        std::vector<EncodedExample> examples(texts.size());
        std::vector<ChatEncoder::Conversation> conversations;
        std::vector<size_t> where;  // of each conversation
        for (size_t i = 0; i < texts.size(); i++) {
            try {
                SftExample example = parse_sft_example(texts[i]);
                if (example.continuation) {
                    examples[i] = chat.continuation(example.prompt, *example.continuation);
                } else {
                    conversations.push_back(std::move(example.conversation));
                    where.push_back(i);
                }
            } catch (const Error& e) {
                examples[i].problem = e.what();
            }
        }
        std::vector<EncodedExample> encoded = chat.examples(conversations, most + 1);
        for (size_t i = 0; i < encoded.size(); i++) examples[where[i]] = std::move(encoded[i]);
        for (size_t i = 0; i < texts.size(); i++) {
            EncodedExample& e = examples[i];
            TextEncoder::Encoded& result = results[i];
            result.problem = e.problem;
            if (!e.problem.empty()) continue;
            if (options.train_on_prompts) std::fill(e.trained.begin(), e.trained.end(), true);
            const auto first = std::find(e.trained.begin() + (e.trained.empty() ? 0 : 1), e.trained.end(), true);
            if (const auto at = size_t(first - e.trained.begin()); at >= std::min(most, e.ids.size())) {
                result.problem = fmt::format("no token of an answer is among the first {} (training.seq_len + 1)", most);
                result.leave_out = true;
                continue;
            }
            for (size_t t = 0; t < std::min(most + 1, e.ids.size()); t++)
                result.ids.push_back(pack_sft_token(e.ids[t], e.trained[t]));
        }
        return results;
    };
    return encoder;
}

SftCounts count_examples(const TokenCache& tokens, int64_t seq_len) {
    SftCounts counts;
    const auto most = uint64_t(seq_len) + 1;
    for (uint64_t d = 0; d < tokens.documents(); d++) {
        const TokenSpan document = tokens.document(d);
        counts.cut += document.size() > most;
        for (uint64_t i = 1; i < std::min(most, document.size()); i++) counts.trained += unpack_sft_token(document[i]).trained;
    }
    return counts;
}

}  // namespace vkqat
