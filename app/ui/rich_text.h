// Markdown on the screen: laid out block by block when it is first seen, drawn where it is visible, selectable with the mouse.
#pragma once

#include <cstdint>
#include <future>
#include <string>
#include <string_view>
#include <vector>

#include "app/ui/markdown.h"
#include "app/ui/theme.h"

namespace vkqat {

// A place in a text: a block, and a byte of its text.
struct TextPlace {
    int block = -1;
    uint32_t byte = 0;
    auto operator<=>(const TextPlace&) const = default;
};

// What is selected in several texts that stand one after another. Each has a number, growing from the first to the last.
struct TextSelection {
    struct Point {
        int item = -1;
        TextPlace place;
        auto operator<=>(const Point&) const = default;
    };
    Point anchor, focus;
    bool dragging = false;  // with the mouse

    bool empty() const { return anchor.item < 0 || anchor == focus; }
    void clear() { *this = {}; }
    // What of text `item` is selected; false if nothing is. `end`: the text's last place.
    bool part(int item, TextPlace end, TextPlace& from, TextPlace& to) const;
};

class RichText {
public:
    // Parses again only if the text has changed; blocks that did not change keep their layout. A long text is parsed on a thread:
    // until then what was there before is shown. now: waits for it.
    void set_text(std::string_view text, bool now = false);
    bool parsing() const { return parsing_.valid(); }  // the text is asked for again in the next frame
    // Its height at a width. Only what is asked for is laid out: what lies outside of `from` .. `to` (below its top edge) and was
    // never seen is guessed.
    float height(const Theme& theme, float width, float from, float to);
    // Draws it at the cursor as text `item` of the selection and handles the mouse. beside: other texts stand left or right of
    // it.
    void draw(const Theme& theme, float width, TextSelection& selection, int item, bool beside = false);
    TextPlace end() const;
    std::string between(TextPlace from, TextPlace to) const;
    // Marks every place of a search's words.
    void set_highlight(std::string query) { highlight_ = std::move(query); }

private:
    struct Fragment {  // a piece of a line in one style; from left to right in their line
        float x;
        uint32_t begin, end;
        uint8_t style;
        float width;
        int turned = -1;  // where it runs from right to left or is joined: an index into the layout's `turned`
    };
    struct Turned {
        std::string shown;           // from left to right
        std::vector<uint32_t> byte;  // of the text: where each character begins; one more: the end
        std::vector<float> edge;     // of each, from the fragment's left edge: where it begins; one more: where the last one ends
    };
    struct Line {
        float y, height;       // below the block's top edge
        uint32_t first, last;  // fragments
        float x = 0;
    };
    struct Layout {
        uint64_t hash = 0;
        float width = -1, scale = 0, height = 0;
        bool marked_right = false;  // a list's item that begins at the right: so does its marker
        std::vector<Fragment> fragments;
        std::vector<Line> lines;
        std::vector<Turned> turned;
        std::vector<float> rules;    // of a table: lines across, below the block's top edge
        std::vector<float> columns;  // of a table
    };
    struct Metrics;

    void lay_out(const Theme& theme, size_t block, float width);
    bool laid_out(const Theme& theme, size_t block, float width) const;
    float guess(const Theme& theme, size_t block, float width) const;
    void break_lines(const Theme& theme, Layout& layout, const TextBlock& block, uint32_t begin, uint32_t end, float x,
                     float width, float& y);
    // The same for text with scripts that are written from right to left.
    void break_lines_both_ways(const Theme& theme, Layout& layout, const TextBlock& block, uint32_t begin, uint32_t end, float x,
                               float width, float& y);
    // How far from a fragment's left edge a byte of the text begins.
    float place_of(const Theme& theme, const TextBlock& block, const Layout& layout, const Fragment& fragment,
                   uint32_t byte) const;
    void draw_block(const Theme& theme, size_t block, ImVec2 at, float width, TextPlace from, TextPlace to);
    TextPlace place_at(const Theme& theme, ImVec2 origin, float width, ImVec2 mouse) const;
    float text_width(const Theme& theme, const TextBlock& block, uint8_t style, uint32_t begin, uint32_t end) const;

    void take(std::vector<TextBlock> blocks);

    std::string source_, highlight_;
    std::future<std::vector<TextBlock>> parsing_;
    uint64_t source_hash_ = 0;
    std::vector<TextBlock> blocks_;
    std::vector<Layout> layouts_;
    std::vector<float> tops_;
};

}  // namespace vkqat
