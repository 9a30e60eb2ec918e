#include "trainer/sample_grammar.h"

#include <vector>

#include "runtime/support/error.h"
#include "trainer/random.h"

namespace vkqat {

namespace {

// The position of the bracket that closes the one at `open`.
size_t closing(std::string_view text, size_t open) {
    int depth = 0;
    for (size_t i = open; i < text.size(); ++i) {
        if (text[i] == '{' || text[i] == '<') ++depth;
        if ((text[i] == '}' || text[i] == '>') && --depth == 0) return i;
    }
    fail("sample corpus: an unbalanced bracket in \"{}\"", text);
}

// The alternatives between the bars of the outermost level.
std::vector<std::string_view> alternatives(std::string_view text) {
    std::vector<std::string_view> parts;
    size_t start = 0;
    int depth = 0;
    for (size_t i = 0; i <= text.size(); ++i) {
        if (i == text.size() || (text[i] == '|' && depth == 0)) {
            parts.push_back(text.substr(start, i - start));
            start = i + 1;
        } else if (text[i] == '{' || text[i] == '<') {
            ++depth;
        } else if (text[i] == '}' || text[i] == '>') {
            --depth;
        }
    }
    return parts;
}

std::string expand_slots(std::string_view text, Slots& slots, std::mt19937_64& random) {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '{' || c == '<') {
            size_t end = closing(text, i);
            std::string_view inside = text.substr(i + 1, end - i - 1);
            size_t name_length = c == '<' ? inside.find('=') : 0;
            if (name_length == std::string_view::npos) fail("sample corpus: no \"=\" in \"<{}>\"", inside);
            std::vector<std::string_view> choices = alternatives(c == '<' ? inside.substr(name_length + 1) : inside);
            std::string chosen = expand_slots(choices[pick_index(random, choices.size())], slots, random);
            if (c == '<')
                slots[std::string(inside.substr(0, name_length))] = chosen;
            else
                out += chosen;
            i = end;
        } else if (c == '[') {
            size_t end = text.find(']', i);
            if (end == std::string_view::npos) fail("sample corpus: an unbalanced bracket in \"{}\"", text);
            std::string name(text.substr(i + 1, end - i - 1));
            bool capital = !name.empty() && name[0] >= 'A' && name[0] <= 'Z';
            if (capital) name[0] = char(name[0] - 'A' + 'a');
            auto slot = slots.find(name);
            if (slot == slots.end()) fail("sample corpus: no slot \"{}\"", name);
            out += capital ? capitalized(slot->second) : slot->second;
            i = end;
        } else {
            out += c;
        }
    }
    return out;
}

}  // namespace

std::string capitalized(std::string text) {
    if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = char(text[0] - 'a' + 'A');
    return text;
}

size_t pick_index(std::mt19937_64& random, size_t count) { return size_t(uniform_below(random, count)); }

std::string expand(std::string_view text, Slots& slots, std::mt19937_64& random) {
    std::string raw = expand_slots(text, slots, random), out;
    for (size_t i = 0; i < raw.size(); ++i) {
        if (raw[i] == ' ' && (i + 1 == raw.size() || raw[i + 1] == ' ' || raw[i + 1] == '\n')) continue;
        if (raw[i] != '~') {
            out += raw[i];
        } else if (i + 2 < raw.size() && std::string_view("aeiouAEIOU").find(raw[i + 2]) != std::string_view::npos) {
            out += 'n';
        }
    }
    return out;
}

}  // namespace vkqat
