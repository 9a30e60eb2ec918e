// Markdown on the screen: laid out block by block when it is first seen, drawn where it is visible, selectable with the mouse.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "app/ui/markdown.h"
#include "app/ui/theme.h"

namespace vkqat {

class RichText {
public:
    // Parses again only if the text has changed; blocks that did not change keep their layout.
    void set_text(std::string_view text);
    // Its height at a width. Only what is asked for is laid out: what lies outside of `from` .. `to` (below its top edge) and was
    // never seen is guessed.
    float height(const Theme& theme, float width, float from, float to);
    // Draws it at the cursor and handles the mouse. True while something in it is selected.
    bool draw(const Theme& theme, float width);
    std::string selected() const;
    void clear_selection() { anchor_ = focus_ = {}; }
    // Marks every place of a search's words.
    void set_highlight(std::string query) { highlight_ = std::move(query); }

private:
    struct Fragment {  // a piece of a line in one style
        float x;
        uint32_t begin, end;
        uint8_t style;
        float width;
    };
    struct Line {
        float y, height;       // below the block's top edge
        uint32_t first, last;  // fragments
        float x = 0;
    };
    struct Layout {
        uint64_t hash = 0;
        float width = -1, scale = 0, height = 0;
        std::vector<Fragment> fragments;
        std::vector<Line> lines;
        std::vector<float> rules;    // of a table: lines across, below the block's top edge
        std::vector<float> columns;  // of a table
    };
    struct Place {
        int block = -1;
        uint32_t byte = 0;
        bool operator==(const Place&) const = default;
        auto operator<=>(const Place&) const = default;
    };
    struct Metrics;

    void lay_out(const Theme& theme, size_t block, float width);
    bool laid_out(const Theme& theme, size_t block, float width) const;
    float guess(const Theme& theme, size_t block, float width) const;
    void break_lines(const Theme& theme, Layout& layout, const TextBlock& block, uint32_t begin, uint32_t end, float x,
                     float width, float& y);
    void draw_block(const Theme& theme, size_t block, ImVec2 at, float width);
    Place place_at(const Theme& theme, ImVec2 origin, float width, ImVec2 mouse) const;
    float text_width(const Theme& theme, const TextBlock& block, uint8_t style, uint32_t begin, uint32_t end) const;

    std::string source_, highlight_;
    uint64_t source_hash_ = 0;
    std::vector<TextBlock> blocks_;
    std::vector<Layout> layouts_;
    std::vector<float> tops_;
    Place anchor_, focus_;
    bool dragging_ = false;
};

}  // namespace vkqat
