#include "runtime/text/pretokenizer.h"

#include "runtime/support/error.h"

namespace vkqat {
namespace {

void check_growth(std::string_view text, size_t limit) {
    if (text.size() > limit) fail("a text grows beyond {} bytes when it is normalized", limit);
}

using Words = std::vector<std::string_view>;

struct Apply {
    const Words& words;
    std::string_view whole;
    bool first;
    std::deque<std::string>& storage;

    Words operator()(const SplitStep& step) const {
        Words out;
        for (std::string_view word : words) {
            size_t done = 0;
            auto add = [&](size_t end, bool match) {
                const bool drop = step.remove && match != step.invert;
                if (end > done && !drop) out.push_back(word.substr(done, end - done));
                done = end;
            };
            for (const TextRange& match : step.regex.find_all(word)) {
                add(match.begin, false);
                add(match.end, true);
            }
            add(word.size(), false);
        }
        return out;
    }

    Words operator()(const PrefixSpaceStep&) const {
        Words out;
        for (std::string_view word : words)
            out.push_back(word.starts_with(' ') ? word : std::string_view(storage.emplace_back(" " + std::string(word))));
        return out;
    }

    Words operator()(const MetaspaceStep& step) const {
        Words out;
        for (std::string_view word : words) {
            std::string& text = storage.emplace_back(replace_all(word, " ", step.replacement));
            const bool prepend = step.prepend == MetaspaceStep::Prepend::always ||
                                 (step.prepend == MetaspaceStep::Prepend::first && first && word.data() == whole.data());
            if (prepend && !text.starts_with(step.replacement)) text.insert(0, step.replacement);
            std::string_view left = text;
            while (step.split) {
                const size_t next = left.find(step.replacement, left.starts_with(step.replacement) ? step.replacement.size() : 0);
                if (next == std::string_view::npos) break;
                out.push_back(left.substr(0, next));
                left.remove_prefix(next);
            }
            if (!left.empty()) out.push_back(left);
        }
        return out;
    }
};

}  // namespace

std::string replace_all(std::string_view text, std::string_view what, std::string_view by, size_t limit) {
    std::string out;
    for (size_t i = 0;;) {
        const size_t found = what.empty() ? std::string_view::npos : text.find(what, i);
        out += text.substr(i, found - i);
        if (found == std::string_view::npos) return out;
        out += by;
        check_growth(out, limit);
        i = found + what.size();
    }
}

std::vector<std::string_view> pretokenize(std::span<const PretokenizeStep> steps, std::string_view text, bool first,
                                          std::deque<std::string>& storage) {
    Words words{text};
    for (const PretokenizeStep& step : steps) words = std::visit(Apply{words, text, first, storage}, step);
    return words;
}

std::string normalize(std::span<const NormalizeStep> steps, std::string_view text) {
    const size_t limit = 64 * text.size() + 65536;
    std::string out(text);
    for (const NormalizeStep& step : steps) {
        if (const auto* prepend = std::get_if<PrependStep>(&step)) {
            if (!out.empty()) out.insert(0, prepend->text);
            check_growth(out, limit);
            continue;
        }
        const auto& replace = std::get<ReplaceStep>(step);
        if (const auto* plain = std::get_if<std::string>(&replace.pattern)) {
            out = replace_all(out, *plain, replace.replacement, limit);
            continue;
        }
        std::string changed;
        size_t done = 0;
        for (const TextRange& match : std::get<Regex>(replace.pattern).find_all(out)) {
            changed += std::string_view(out).substr(done, match.begin - done);
            changed += replace.replacement;
            check_growth(changed, limit);
            done = match.end;
        }
        changed += std::string_view(out).substr(done);
        out = std::move(changed);
    }
    return out;
}

}  // namespace vkqat
