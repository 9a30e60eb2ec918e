// Markdown as blocks of styled text, ready to be laid out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

enum TextStyle : uint8_t { style_bold = 1, style_italic = 2, style_code = 4, style_link = 8, style_strike = 16 };

struct TextSpan {
    uint32_t begin, end;  // bytes of the block's text
    uint8_t style;
};

enum class BlockKind : uint8_t { paragraph, heading, code, rule, table };

struct TextBlock {
    BlockKind kind = BlockKind::paragraph;
    int level = 0;         // of a heading, 1 .. 6
    int indent = 0;        // of lists
    int quote = 0;         // depth of quotation
    int columns = 0;       // of a table, whose text is its cells
    std::string marker;    // of a list's item: "•", "2."
    std::string language;  // of code
    std::string text;
    std::vector<TextSpan> spans;  // ascending, without gaps
    std::vector<uint32_t> cells;  // of a table: where each cell begins
    uint64_t hash = 0;            // of all of it
};

// GitHub's flavour, HTML as text. Any text is Markdown; damage cannot happen.
std::vector<TextBlock> parse_markdown(std::string_view text);

}  // namespace vkqat
