#include "app/core/bidi.h"

#include <fribidi.h>

#include <numeric>

#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

static_assert(sizeof(FriBidiChar) == sizeof(char32_t) && sizeof(FriBidiCharType) == sizeof(uint32_t));
constexpr FriBidiFlags flags = FRIBIDI_FLAGS_DEFAULT | FRIBIDI_FLAGS_ARABIC;

}  // namespace

bool has_right_to_left(std::string_view text) {
    // Hebrew, Arabic, Syriac, Thaana and their neighbours up to U+08FF, marks of direction, presentation forms, the plane's old
    // scripts.
    for (size_t i = 0; i < text.size(); i++) {
        const auto a = uint8_t(text[i]);
        if (a < 0xd6) continue;
        const auto b = i + 1 < text.size() ? uint8_t(text[i + 1]) : uint8_t(0);
        if (a <= 0xdf && (a > 0xd6 || b >= 0x90)) return true;
        if (a == 0xe0 && b >= 0xa0 && b <= 0xa3) return true;
        if (a == 0xef && b >= 0xac && b <= 0xbb) {
            const char32_t code = utf8_at(text, i).code;
            if ((code >= 0xfb1d && code <= 0xfdff) || (code >= 0xfe70 && code <= 0xfefe)) return true;
        }
        if (a == 0xf0 && (b == 0x90 || b == 0x9e)) {
            const char32_t code = utf8_at(text, i).code;
            if ((code >= 0x10800 && code <= 0x10fff) || (code >= 0x1e800 && code <= 0x1efff)) return true;
        }
    }
    return false;
}

bool BidiParagraph::space(size_t i) const { return shown[i] == ' ' || shown[i] == '\t'; }

BidiParagraph read_bidi(std::string_view text, bool left) {
    BidiParagraph p;
    for (size_t at = 0; at < text.size();) {
        const Utf8Char c = utf8_at(text, at);
        p.byte.push_back(uint32_t(at));
        p.shown.push_back(c.code);
        at += c.length;
    }
    p.byte.push_back(uint32_t(text.size()));
    const auto n = FriBidiStrIndex(p.shown.size());
    p.level.assign(p.shown.size(), 0);
    p.type.assign(p.shown.size(), 0);
    if (n == 0) return p;
    auto* codes = reinterpret_cast<FriBidiChar*>(p.shown.data());
    fribidi_get_bidi_types(codes, n, p.type.data());
    std::vector<FriBidiBracketType> brackets(p.shown.size());
    fribidi_get_bracket_types(codes, n, p.type.data(), brackets.data());
    std::vector<FriBidiLevel> levels(p.shown.size());
    FriBidiParType base = left ? FRIBIDI_PAR_LTR : FRIBIDI_PAR_ON;
    if (!fribidi_get_par_embedding_levels_ex(p.type.data(), brackets.data(), n, &base, levels.data())) return p;  // no memory
    p.right_to_left = FRIBIDI_IS_RTL(base);
    std::vector<FriBidiArabicProp> joining(p.shown.size());
    fribidi_get_joining_types(codes, n, joining.data());
    fribidi_join_arabic(p.type.data(), n, levels.data(), joining.data());
    fribidi_shape(flags, levels.data(), n, joining.data(), codes);
    for (size_t i = 0; i < p.shown.size(); i++) {
        p.level[i] = uint8_t(levels[i]);
        if (p.shown[i] == FRIBIDI_CHAR_FILL || FRIBIDI_IS_EXPLICIT_OR_BN(p.type[i]) || FRIBIDI_IS_ISOLATE(p.type[i]) ||
            p.shown[i] == FRIBIDI_CHAR_LRM || p.shown[i] == FRIBIDI_CHAR_RLM)
            p.shown[i] = 0;
    }
    return p;
}

std::vector<uint32_t> line_order(const BidiParagraph& p, size_t first, size_t last) {
    const size_t n = last - first;
    std::vector<FriBidiStrIndex> map(n);
    std::iota(map.begin(), map.end(), FriBidiStrIndex(first));
    if (n == 0) return {};
    std::vector<FriBidiLevel> levels(p.level.begin() + ptrdiff_t(first), p.level.begin() + ptrdiff_t(last));
    // Of no memory the order stays as it is.
    (void)!fribidi_reorder_line(flags, p.type.data() + first, FriBidiStrIndex(n), 0,
                                p.right_to_left ? FRIBIDI_PAR_RTL : FRIBIDI_PAR_LTR, levels.data(), nullptr, map.data());
    return {map.begin(), map.end()};
}

std::string in_visual_order(std::string_view text) {
    if (!has_right_to_left(text)) return std::string(text);
    const BidiParagraph p = read_bidi(text);
    std::string result;
    for (const uint32_t i : line_order(p, 0, p.shown.size()))
        if (p.shown[i]) utf8_append(result, p.shown[i]);
    return result;
}

}  // namespace vkqat
