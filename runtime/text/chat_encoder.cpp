#include "runtime/text/chat_encoder.h"

#include <algorithm>

#include "runtime/support/error.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

// A text out of which marks have been taken, and where they were.
struct Unmarked {
    std::string text;
    std::vector<size_t> literal;
};

Unmarked without_marks(std::string_view text, const std::string& mark) {
    Unmarked result;
    if (mark.empty()) return {std::string(text), {}};
    for (size_t at = 0;;) {
        const size_t found = std::min(text.find(mark, at), text.size());
        result.text += text.substr(at, found - at);
        if (found == text.size()) return result;
        result.literal.push_back(result.text.size());
        at = found + mark.size();
    }
}

bool begins_with(const std::vector<TokenId>& ids, const std::vector<TokenId>& beginning) {
    return ids.size() >= beginning.size() && std::equal(beginning.begin(), beginning.end(), ids.begin());
}

}  // namespace

ChatEncoder::ChatEncoder(Tokenizer tokenizer, ChatTemplate chat_template)
    : tokenizer_(std::move(tokenizer)), template_(std::move(chat_template)), special_(256) {
    for (size_t id = 0; id < tokenizer_.vocab_size(); ++id)
        if (const std::string& token = tokenizer_.token(TokenId(id)); tokenizer_.is_special(TokenId(id)) && token.size() > 1)
            special_[static_cast<unsigned char>(token[0])].push_back(token);
}

// The messages with `mark`, a character that they do not hold, behind the first character of every special token in a content.
// The mark survives rendering, and tells which special tokens are the template's and which are somebody's text.
std::vector<ChatMessage> ChatEncoder::hidden(std::span<const ChatMessage> messages, std::string& mark) const {
    std::vector<ChatMessage> result(messages.begin(), messages.end());
    auto starts_special = [&](std::string_view text) {
        const auto& tokens = special_[static_cast<unsigned char>(text[0])];
        return std::any_of(tokens.begin(), tokens.end(), [&](const std::string& token) { return text.starts_with(token); });
    };
    bool any = false;
    for (ChatMessage& message : result) {
        message.content = utf8_lossy(message.content);
        for (size_t i = 0; i < message.content.size() && !any; ++i)
            any = starts_special(std::string_view(message.content).substr(i));
    }
    if (!any) return result;
    if (mark.empty()) {
        for (char32_t code = 0xFDD0; code <= 0xFDEF; ++code) {  // characters that Unicode will never assign
            mark.clear();
            utf8_append(mark, code);
            auto holds = [&](const ChatMessage& m) { return m.content.find(mark) != m.content.npos; };
            if (std::none_of(result.begin(), result.end(), holds)) break;
            mark.clear();
        }
        if (mark.empty()) fail("a conversation holds special tokens, and all of U+FDD0 to U+FDEF: leave some of these out");
    }
    for (ChatMessage& message : result) {
        const std::string content = std::move(message.content);
        message.content.clear();
        for (size_t i = 0; i < content.size();) {
            const size_t length = utf8_at(content, i).length;
            message.content += content.substr(i, length);
            if (starts_special(std::string_view(content).substr(i))) message.content += mark;
            i += length;
        }
    }
    return result;
}

std::vector<TokenId> ChatEncoder::prompt(std::span<const ChatMessage> messages) const {
    std::string mark;
    const std::vector<ChatMessage> marked = hidden(messages, mark);
    const Unmarked clean = without_marks(utf8_lossy(render_chat(template_, marked, true)), mark);
    return tokenizer_.encode(clean.text, {.add_bos = false, .parse_special = true, .literal = clean.literal});
}

EncodedExample ChatEncoder::encode(const RenderedTurns& turns, const std::string& mark, const std::vector<bool>& trained,
                                   size_t max_tokens) const {
    EncodedExample result;
    if (!turns.problem.empty()) {
        result.problem = turns.problem;
        return result;
    }
    auto ids_of = [&](size_t begin, size_t end) {
        const Unmarked clean = without_marks(std::string_view(turns.text).substr(begin, end - begin), mark);
        return tokenizer_.encode(clean.text, {.add_bos = false, .parse_special = true, .literal = clean.literal});
    };
    size_t last = trained.size();
    while (last > 0 && !trained[last - 1]) --last;
    size_t done = 0;  // of the text
    for (size_t i = 0; i < 2 * last && result.ids.size() <= max_tokens; done = turns.cuts[i++]) {
        const size_t cut = turns.cuts[i], before = result.ids.size();
        // A prompt has the ids that it has alone; the answer those that it has behind the prompt. Where these would change the
        // prompt's, the answer is taken by itself.
        std::vector<TokenId> ids = ids_of(0, cut);
        if (begins_with(ids, result.ids)) {
            result.ids = std::move(ids);
        } else {
            ids = ids_of(done, cut);
            result.ids.insert(result.ids.end(), ids.begin(), ids.end());
        }
        const bool answer = i % 2 == 1 && trained[i / 2];
        result.trained.resize(result.ids.size(), answer);
        if (!answer) continue;
        // Behind the token that ends an answer nobody reads on.
        size_t end = result.ids.size();
        while (end > before && !tokenizer_.is_special(result.ids[end - 1])) --end;
        if (end == before) continue;
        const std::string behind = tokenizer_.decode(std::span(result.ids).subspan(end));
        if (behind.find_first_not_of(" \t\r\n") == behind.npos)
            std::fill(result.trained.begin() + ptrdiff_t(end), result.trained.end(), false);
    }
    return result;
}

std::vector<EncodedExample> ChatEncoder::examples(std::span<const Conversation> conversations, size_t max_tokens) const {
    std::vector<EncodedExample> results(conversations.size());
    auto noting_problems = [&](size_t i, const auto& work) {
        try {
            work();
        } catch (const Error& e) {
            results[i] = {.ids = {}, .trained = {}, .problem = e.what()};
        }
    };
    std::vector<std::vector<ChatMessage>> marked(conversations.size());
    std::vector<std::string> marks(conversations.size());
    for (size_t i = 0; i < conversations.size(); ++i)
        noting_problems(i, [&] { marked[i] = hidden(conversations[i].messages, marks[i]); });
    const std::vector<RenderedTurns> turns = render_turns(template_, marked);
    for (size_t i = 0; i < conversations.size(); ++i) {
        if (!results[i].problem.empty()) continue;
        std::vector<bool> trained;  // by answer
        for (size_t m = 0; m < conversations[i].messages.size(); ++m)
            if (conversations[i].messages[m].role == "assistant") trained.push_back(conversations[i].trained[m]);
        noting_problems(i, [&] { results[i] = encode(turns[i], marks[i], trained, max_tokens); });
    }
    return results;
}

EncodedExample ChatEncoder::continuation(const std::string& prompt, const std::string& continuation) const {
    EncodedExample result;
    const bool start = tokenizer_.bos().has_value();
    result.ids = tokenizer_.encode(prompt, {.add_bos = start});
    std::vector<TokenId> ids = tokenizer_.encode(prompt + continuation, {.add_bos = start});
    const size_t prompt_ids = result.ids.size();
    if (begins_with(ids, result.ids)) {
        result.ids = std::move(ids);
    } else {
        ids = tokenizer_.encode(continuation, {.add_bos = false});
        result.ids.insert(result.ids.end(), ids.begin(), ids.end());
    }
    if (tokenizer_.eos()) result.ids.push_back(*tokenizer_.eos());
    result.trained.resize(prompt_ids, false);
    result.trained.resize(result.ids.size(), true);
    return result;
}

std::optional<TokenId> ChatEncoder::turn_end() const {
    const Conversation conversation{{{"user", "a"}, {"assistant", "b"}}, {false, true}};
    const EncodedExample example = examples(std::span(&conversation, 1), SIZE_MAX)[0];
    if (!example.problem.empty()) fail("{}", example.problem);
    for (size_t i = example.ids.size(); i-- > 0;)
        if (example.trained[i])
            return tokenizer_.is_special(example.ids[i]) ? std::optional<TokenId>(example.ids[i]) : std::nullopt;
    return std::nullopt;
}

}  // namespace vkqat
