// Scripts that are written from right to left: the order in which the characters of a line stand, and the joined forms of Arabic
// letters (by FriBidi: Unicode's bidirectional algorithm, UAX 9, and Arabic presentation forms). There is no shaping by a font's
// tables: marks stand beside their letter, and scripts of India are as they were.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

// Whether any character is of such a script; then the rest of this is worth its time.
bool has_right_to_left(std::string_view text);

// A paragraph, character by character.
struct BidiParagraph {
    std::vector<uint32_t> byte;   // where each character begins; one more: the end
    std::vector<char32_t> shown;  // as it is drawn: joined, mirrored; 0: drawn with its neighbour, or not at all
    std::vector<uint8_t> level;   // odd: from right to left
    std::vector<uint32_t> type;   // FriBidi's
    bool right_to_left = false;   // the paragraph begins at the right
    bool space(size_t i) const;   // a line may be broken behind it
};
// text: UTF-8 without line feeds. left: the paragraph begins at the left, whatever it begins with (code).
BidiParagraph read_bidi(std::string_view text, bool left = false);

// Characters first .. last of a paragraph that stand in one line, from left to right.
std::vector<uint32_t> line_order(const BidiParagraph& paragraph, size_t first, size_t last);

// A short text as it is drawn in one line.
std::string in_visual_order(std::string_view text);

}  // namespace vkqat
