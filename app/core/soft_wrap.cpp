#include "app/core/soft_wrap.h"

#include <algorithm>

#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr std::string_view mark = "\xe2\x80\x8b";

}  // namespace

std::string without_soft_breaks(std::string_view text, const std::vector<int*>& places) {
    std::string result;
    std::vector<int> moved(places.size(), -1);
    for (size_t at = 0; at <= text.size();) {
        for (size_t i = 0; i < places.size(); i++)
            if (moved[i] < 0 && size_t(*places[i]) <= at) moved[i] = int(result.size());
        if (at == text.size()) break;
        if (text.substr(at).starts_with(soft_break)) {
            at += soft_break.size();
        } else if (text.substr(at).starts_with(mark)) {
            at += mark.size();
            while (!result.empty() && (uint8_t(result.back()) & 0xc0) == 0x80) result.pop_back();
            if (!result.empty()) result.pop_back();
            for (int& place : moved) place = std::min(place, int(result.size()));
        } else {
            result += text[at++];
        }
    }
    for (size_t i = 0; i < places.size(); i++) *places[i] = moved[i] < 0 ? int(result.size()) : moved[i];
    return result;
}

std::string with_soft_breaks(std::string_view text, float width, const std::function<float(std::string_view)>& width_of,
                             const std::vector<int*>& places) {
    std::string result;
    std::vector<int> moved(places.size(), -1);
    float line = 0;
    auto put = [&](std::string_view piece, size_t at) {
        for (size_t i = 0; i < places.size(); i++)
            if (size_t(*places[i]) >= at && size_t(*places[i]) < at + piece.size())
                moved[i] = int(result.size() + size_t(*places[i]) - at);
        result += piece;
    };
    auto break_line = [&] {
        result += soft_break;
        line = 0;
    };
    for (size_t at = 0; at < text.size();) {
        if (text[at] == '\n') {
            put("\n", at++);
            line = 0;
            continue;
        }
        size_t word = at;
        while (word < text.size() && text[word] != ' ' && text[word] != '\n') word++;
        size_t end = word;
        while (end < text.size() && text[end] == ' ') end++;
        const float w = width_of(text.substr(at, word - at));
        if (line > 0 && line + w > width) break_line();
        if (w <= width) {
            put(text.substr(at, end - at), at);
            line += w + width_of(text.substr(word, end - word));
            at = end;
            continue;
        }
        while (at < word) {  // longer than a line
            const size_t next = at + utf8_at(text, at).length;
            const float step = width_of(text.substr(at, next - at));
            if (line > 0 && line + step > width) break_line();
            put(text.substr(at, next - at), at);
            line += step;
            at = next;
        }
    }
    for (size_t i = 0; i < places.size(); i++) *places[i] = moved[i] < 0 ? int(result.size()) : moved[i];
    return result;
}

}  // namespace vkqat
