#include "app/ui/rich_text.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "app/core/bidi.h"
#include "app/core/conversation.h"
#include "app/ui/widgets.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

float block_size(const Theme& theme, const TextBlock& block) {
    if (block.kind == BlockKind::heading) return theme.size * (block.level == 1 ? 1.45f : block.level == 2 ? 1.25f : 1.1f);
    if (block.kind == BlockKind::code) return theme.size * 0.92f;
    return theme.size;
}

ImFont* font_of(const Theme& theme, const TextBlock& block, uint8_t style) {
    if (block.kind == BlockKind::code || (style & style_code)) return theme.fonts.mono;
    if (block.kind == BlockKind::heading || (style & style_bold)) return theme.fonts.bold;
    return style & style_italic ? theme.fonts.italic : theme.fonts.regular;
}

float size_of(const Theme& theme, const TextBlock& block, uint8_t style) {
    const float size = block_size(theme, block) * theme.scale;
    return (style & style_code) && block.kind != BlockKind::code ? size * 0.92f : size;
}

float line_height(const Theme& theme, const TextBlock& block) {
    return std::round(block_size(theme, block) * theme.scale * (block.kind == BlockKind::code ? 1.45f : 1.5f));
}

float gap_before(const Theme& theme, const TextBlock& block, bool first) {
    if (first) return 0;
    if (block.kind == BlockKind::heading) return theme.px(18);
    return theme.px(!block.marker.empty() && block.indent > 0 ? 4 : 10);
}

float indent_of(const Theme& theme, const TextBlock& block) {
    return theme.px(20) * float(block.indent) + theme.px(14) * float(block.quote);
}

constexpr float code_padding = 12, code_header = 30;
constexpr size_t long_text = 32 << 10;  // parsing it takes a millisecond

}  // namespace

bool TextSelection::part(int item, TextPlace end, TextPlace& from, TextPlace& to) const {
    auto [low, high] = std::minmax(anchor, focus);
    if (empty() || item < low.item || item > high.item) return false;
    from = item == low.item ? low.place : TextPlace{0, 0};
    to = item == high.item ? std::min(high.place, end) : end;
    return from < to;
}

void RichText::set_text(std::string_view text, bool now) {
    if (parsing_.valid() && (now || parsing_.wait_for(std::chrono::seconds(0)) == std::future_status::ready))
        take(parsing_.get());
    const uint64_t hash = std::hash<std::string_view>{}(text);
    if (parsing_.valid() || (hash == source_hash_ && text.size() == source_.size())) return;
    source_hash_ = hash;
    source_ = text;
    if (now || text.size() < long_text)
        take(parse_markdown(source_));
    else
        parsing_ = std::async(std::launch::async, [copy = source_] { return parse_markdown(copy); });
}

void RichText::take(std::vector<TextBlock> blocks) {
    blocks_ = std::move(blocks);
    layouts_.resize(blocks_.size());
    tops_.assign(blocks_.size() + 1, 0);
}

float RichText::text_width(const Theme& theme, const TextBlock& block, uint8_t style, uint32_t begin, uint32_t end) const {
    return font_of(theme, block, style)
        ->CalcTextSizeA(size_of(theme, block, style), FLT_MAX, 0, block.text.data() + begin, block.text.data() + end)
        .x;
}

bool RichText::laid_out(const Theme& theme, size_t i, float width) const {
    const Layout& layout = layouts_[i];
    return layout.hash == blocks_[i].hash && layout.width == width && layout.scale == theme.scale * theme.size;
}

float RichText::guess(const Theme& theme, size_t i, float width) const {
    const TextBlock& block = blocks_[i];
    if (laid_out(theme, i, width)) return layouts_[i].height;
    const float per_line = std::max(8.0f, width / (block_size(theme, block) * theme.scale * 0.5f));
    const auto breaks = float(std::count(block.text.begin(), block.text.end(), '\n'));
    const float lines = std::ceil(float(block.text.size()) / per_line) + breaks;
    return std::max(1.0f, lines) * line_height(theme, block) +
           (block.kind == BlockKind::code ? theme.px(code_header + 2 * code_padding) : 0);
}

// Lines of text[begin, end) between x and x + width, from y on; y becomes their lower edge.
void RichText::break_lines(const Theme& theme, Layout& layout, const TextBlock& block, uint32_t begin, uint32_t end, float x,
                           float width, float& y) {
    if (has_right_to_left(std::string_view(block.text).substr(begin, end - begin))) {
        break_lines_both_ways(theme, layout, block, begin, end, x, width, y);
        return;
    }
    const float height = line_height(theme, block);
    float at = 0;
    auto first = uint32_t(layout.fragments.size());
    auto end_line = [&] {
        layout.lines.push_back({y, height, first, uint32_t(layout.fragments.size()), x});
        first = uint32_t(layout.fragments.size());
        y += height;
        at = 0;
    };
    auto put = [&](uint32_t from, uint32_t to, uint8_t style, float w) {
        if (layout.fragments.size() > first && layout.fragments.back().style == style && layout.fragments.back().end == from) {
            layout.fragments.back().end = to;
            layout.fragments.back().width += w;
        } else {
            layout.fragments.push_back({x + at, from, to, style, w});
        }
        at += w;
    };
    const char* text = block.text.data();
    for (const TextSpan& span : block.spans) {
        uint32_t from = std::max(span.begin, begin);
        const uint32_t last = std::min(span.end, end);
        while (from < last) {
            if (text[from] == '\n') {
                put(from, from, span.style, 0);
                end_line();
                from++;
                continue;
            }
            // A word with the spaces behind it.
            uint32_t to = from;
            while (to < last && text[to] != ' ' && text[to] != '\n') to++;
            const uint32_t word = to;
            while (to < last && text[to] == ' ') to++;
            float word_width = text_width(theme, block, span.style, from, word);
            if (at > 0 && at + word_width > width) end_line();
            if (word_width > width) {  // longer than a line (or a script without spaces): break between characters
                while (from < word) {
                    uint32_t cut = from;
                    float w = 0;
                    while (cut < word) {
                        const uint32_t next = cut + utf8_at(std::string_view(block.text), cut).length;
                        const float step = text_width(theme, block, span.style, cut, next);
                        if (at + w + step > width && at + w > 0) break;
                        w += step;
                        cut = next;
                    }
                    put(from, cut, span.style, w);
                    from = cut;
                    if (from < word) end_line();
                }
                word_width = 0;
            }
            put(from, to, span.style, text_width(theme, block, span.style, from, to));
            from = to;
        }
    }
    if (layout.fragments.size() > first || begin == end || (end > begin && text[end - 1] == '\n')) end_line();
}

void RichText::break_lines_both_ways(const Theme& theme, Layout& layout, const TextBlock& block, uint32_t begin, uint32_t end,
                                     float x, float width, float& y) {
    const float height = line_height(theme, block);
    size_t span = 0;
    for (uint32_t from = begin; from <= end;) {  // paragraph by paragraph
        const auto to = uint32_t(std::min<size_t>(block.text.find('\n', from), end));
        const BidiParagraph p = read_bidi(std::string_view(block.text).substr(from, to - from), block.kind == BlockKind::code);
        const size_t count = p.shown.size();
        std::vector<uint8_t> style(count, 0);
        std::vector<float> advance(count, 0);
        for (size_t i = 0; i < count; i++) {
            while (span + 1 < block.spans.size() && block.spans[span].end <= from + p.byte[i]) span++;
            if (span < block.spans.size()) style[i] = block.spans[span].style;
            if (!p.shown[i]) continue;
            std::string one;
            utf8_append(one, p.shown[i]);
            advance[i] = font_of(theme, block, style[i])
                             ->CalcTextSizeA(size_of(theme, block, style[i]), FLT_MAX, 0, one.data(), one.data() + one.size())
                             .x;
        }
        for (size_t first = 0; first == 0 || first < count;) {
            // As many words as fit, or as many characters of one that is longer than the line.
            size_t last = first, after_space = first;
            float used = 0;
            while (last < count && (used + advance[last] <= width || p.space(last) || last == first)) {
                used += advance[last];
                if (p.space(last++)) after_space = last;
            }
            if (last < count && after_space > first) last = after_space;
            const std::vector<uint32_t> order = line_order(p, first, last);
            float total = 0;
            for (size_t i = first; i < last; i++) total += advance[i];
            float at = p.right_to_left ? x + width - total : x;
            const auto first_fragment = uint32_t(layout.fragments.size());
            for (size_t k = 0; k < order.size();) {
                const bool backwards = p.level[order[k]] & 1;
                size_t n = 1;
                while (k + n < order.size() && style[order[k + n]] == style[order[k]] &&
                       order[k + n] == (backwards ? order[k + n - 1] - 1 : order[k + n - 1] + 1) &&
                       (p.level[order[k + n]] & 1) == int(backwards))
                    n++;
                const size_t low = backwards ? order[k + n - 1] : order[k];
                Turned t;
                float w = 0;
                for (size_t i = 0; i < n; i++) {
                    if (p.shown[order[k + i]]) utf8_append(t.shown, p.shown[order[k + i]]);
                    w += advance[low + i];
                }
                float passed = 0;
                for (size_t i = 0; i <= n; i++) {
                    t.byte.push_back(from + p.byte[low + i]);
                    t.edge.push_back(backwards ? w - passed : passed);
                    if (i < n) passed += advance[low + i];
                }
                layout.fragments.push_back({at, t.byte.front(), t.byte.back(), style[low], w, int(layout.turned.size())});
                layout.turned.push_back(std::move(t));
                at += w;
                k += n;
            }
            if (order.empty()) layout.fragments.push_back({x, from, from, 0, 0});
            layout.lines.push_back({y, height, first_fragment, uint32_t(layout.fragments.size()), x});
            y += height;
            if (last == first) break;
            first = last;
        }
        from = to + 1;
    }
}

float RichText::place_of(const Theme& theme, const TextBlock& block, const Layout& layout, const Fragment& fragment,
                         uint32_t byte) const {
    if (fragment.turned < 0) return text_width(theme, block, fragment.style, fragment.begin, byte);
    const Turned& t = layout.turned[size_t(fragment.turned)];
    const auto at = std::lower_bound(t.byte.begin(), t.byte.end(), byte) - t.byte.begin();
    return t.edge[std::min(size_t(at), t.edge.size() - 1)];
}

void RichText::lay_out(const Theme& theme, size_t i, float width) {
    if (laid_out(theme, i, width)) return;
    const TextBlock& block = blocks_[i];
    Layout layout;
    layout.hash = block.hash;
    layout.width = width;
    layout.scale = theme.scale * theme.size;
    const float indent = indent_of(theme, block), size = float(block.text.size());
    float y = 0;
    switch (block.kind) {
        case BlockKind::rule: y = theme.px(9); break;
        case BlockKind::code: {
            const float padding = theme.px(code_padding);
            y = theme.px(code_header) + padding * 0.5f;
            break_lines(theme, layout, block, 0, uint32_t(size), indent + padding, width - indent - 2 * padding, y);
            y += padding;
            break;
        }
        case BlockKind::table: {
            const auto columns = size_t(std::max(1, block.columns));
            std::vector<float> natural(columns, 0);
            auto cell_end = [&](size_t cell) {
                return cell + 1 < block.cells.size() ? block.cells[cell + 1] : uint32_t(block.text.size());
            };
            for (size_t cell = 0; cell < block.cells.size(); cell++)
                natural[cell % columns] =
                    std::max(natural[cell % columns],
                             text_width(theme, block, cell < columns ? style_bold : 0, block.cells[cell], cell_end(cell)));
            const float padding = theme.px(10);
            float total = 0;
            for (float& w : natural) total += w += 2 * padding;
            const float shrink = std::min(1.0f, (width - indent) / std::max(1.0f, total));
            float x = indent;
            for (float w : natural) layout.columns.push_back(x), x += w * shrink;
            layout.columns.push_back(x);
            for (size_t row = 0; row * columns < block.cells.size(); row++) {
                layout.rules.push_back(y);
                float lower = y;
                for (size_t c = 0; c < columns && row * columns + c < block.cells.size(); c++) {
                    const size_t cell = row * columns + c;
                    float below = y + theme.px(5);
                    break_lines(theme, layout, block, block.cells[cell], cell_end(cell), layout.columns[c] + padding,
                                std::max(theme.px(20), layout.columns[c + 1] - layout.columns[c] - 2 * padding), below);
                    lower = std::max(lower, below + theme.px(5));
                }
                y = lower;
            }
            layout.rules.push_back(y);
            break;
        }
        default: {
            const std::string_view first_line = std::string_view(block.text).substr(0, block.text.find('\n'));
            layout.marked_right = !block.marker.empty() && has_right_to_left(first_line) && read_bidi(first_line).right_to_left;
            const float left = layout.marked_right ? theme.px(14) * float(block.quote) : indent;
            break_lines(theme, layout, block, 0, uint32_t(size), left, width - indent, y);
            break;
        }
    }
    layout.height = y;
    layouts_[i] = std::move(layout);
}

float RichText::height(const Theme& theme, float width, float from, float to) {
    float y = 0;
    if (blocks_.empty() && parsing()) return float(source_.size()) / (width / theme.px(7)) * theme.px(24);
    for (size_t i = 0; i < blocks_.size(); i++) {
        y += gap_before(theme, blocks_[i], i == 0);
        tops_[i] = y;
        const float guessed = guess(theme, i, width);
        if (y <= to && y + guessed >= from) lay_out(theme, i, width);
        y += laid_out(theme, i, width) ? layouts_[i].height : guessed;
    }
    tops_[blocks_.size()] = y;
    return y;
}

void RichText::draw_block(const Theme& theme, size_t i, ImVec2 at, float width, TextPlace low, TextPlace high) {
    const TextBlock& block = blocks_[i];
    const Layout& layout = layouts_[i];
    const Palette& p = theme.colors;
    ImDrawList* draw = ImGui::GetWindowDrawList();
    const float indent = indent_of(theme, block);
    for (int q = 0; q < block.quote; q++) {
        const float x = at.x + theme.px(14) * float(q) + theme.px(3);
        draw->AddRectFilled({x, at.y}, {x + theme.px(3), at.y + layout.height}, p.border, theme.px(2));
    }
    if (!block.marker.empty()) {
        const float size = theme.size * theme.scale;
        const float w = theme.fonts.regular->CalcTextSizeA(size, FLT_MAX, 0, block.marker.c_str()).x;
        const float x = layout.marked_right ? at.x + width - theme.px(20) * float(block.indent) + theme.px(6)
                                            : at.x + indent - w - theme.px(6);
        draw->AddText(theme.fonts.regular, size, {x, at.y + (line_height(theme, block) - size) / 2}, p.dim, block.marker.c_str());
    }
    if (block.kind == BlockKind::rule) {
        draw->AddLine({at.x + indent, at.y + theme.px(4)}, {at.x + width, at.y + theme.px(4)}, p.border, theme.px(1));
        return;
    }
    if (block.kind == BlockKind::code) {
        const ImVec2 corner{at.x + indent, at.y}, opposite{at.x + width, at.y + layout.height};
        draw->AddRectFilled(corner, opposite, p.code, theme.px(8));
        draw->AddRect(corner, opposite, p.border, theme.px(8), 0, theme.px(1));
        const float small = theme.size * theme.scale * 0.85f;
        draw->AddText(theme.fonts.regular, small,
                      {corner.x + theme.px(code_padding), corner.y + (theme.px(code_header) - small) / 2}, p.dim,
                      block.language.empty() ? "text" : block.language.c_str());
        const ImVec2 cursor = ImGui::GetCursorScreenPos();
        const float button = theme.px(70);
        ImGui::PushID(int(i));
        ImGui::SetCursorScreenPos({opposite.x - button - theme.px(4), corner.y + theme.px(3)});
        if (ui::ghost_button(theme, icon::copy, "Copy##code", {button, theme.px(code_header - 6)}))
            ImGui::SetClipboardText(block.text.c_str());
        ImGui::PopID();
        ImGui::SetCursorScreenPos(cursor);
    }
    for (size_t r = 0; r < layout.rules.size(); r++)
        draw->AddLine({at.x + indent, at.y + layout.rules[r]}, {at.x + layout.columns.back(), at.y + layout.rules[r]}, p.border,
                      theme.px(1));

    const bool selects = low.block >= 0 && low.block <= int(i) && high.block >= int(i);
    const uint32_t from = low.block < int(i) ? 0 : low.byte, to = high.block > int(i) ? uint32_t(block.text.size()) : high.byte;
    const ImVec2 clip_low = draw->GetClipRectMin(), clip_high = draw->GetClipRectMax();
    for (const Line& line : layout.lines) {
        const float y = at.y + line.y;
        if (y > clip_high.y || y + line.height < clip_low.y) continue;
        for (uint32_t f = line.first; f < line.last; f++) {
            const Fragment& fragment = layout.fragments[f];
            const float x = at.x + fragment.x, size = size_of(theme, block, fragment.style);
            auto mark = [&](uint32_t begin, uint32_t end, ImU32 color) {
                begin = std::max(begin, fragment.begin), end = std::min(end, fragment.end);
                if (begin >= end) return;
                const auto [left, right] =
                    std::minmax({place_of(theme, block, layout, fragment, begin), place_of(theme, block, layout, fragment, end)});
                draw->AddRectFilled({x + left, y}, {x + right, y + line.height}, color);
            };
            if (selects) mark(from, to, p.selection);
            if (!highlight_.empty()) {
                const std::string_view text = std::string_view(block.text).substr(fragment.begin, fragment.end - fragment.begin);
                for (size_t hit = 0, step; (step = find_text(text.substr(hit), highlight_)) != text.npos;
                     hit += highlight_.size()) {
                    hit += step;
                    mark(fragment.begin + uint32_t(hit), fragment.begin + uint32_t(hit + highlight_.size()),
                         with_alpha(p.warn, 0.4f));
                }
            }
            const float top = y + std::floor((line.height - size) / 2);
            if ((fragment.style & style_code) && block.kind != BlockKind::code && fragment.end > fragment.begin)
                draw->AddRectFilled({x - theme.px(2), top - theme.px(1)},
                                    {x + fragment.width + theme.px(1), top + size + theme.px(3)}, p.raised, theme.px(4));
            const ImU32 color = fragment.style & style_link ? p.accent : block.quote > 0 ? p.dim : p.text;
            const std::string_view shown =
                fragment.turned >= 0 ? std::string_view(layout.turned[size_t(fragment.turned)].shown)
                                     : std::string_view(block.text).substr(fragment.begin, fragment.end - fragment.begin);
            draw->AddText(font_of(theme, block, fragment.style), size, {x, top}, color, shown.data(),
                          shown.data() + shown.size());
            if (fragment.style & style_strike)
                draw->AddLine({x, top + size * 0.58f}, {x + fragment.width, top + size * 0.58f}, color, theme.px(1));
            if (fragment.style & style_link)
                draw->AddLine({x, top + size + theme.px(1)}, {x + fragment.width, top + size + theme.px(1)},
                              with_alpha(color, 0.5f), theme.px(1));
        }
    }
}

TextPlace RichText::place_at(const Theme& theme, ImVec2 origin, float width, ImVec2 mouse) const {
    TextPlace place{0, 0};
    for (size_t i = 0; i < blocks_.size(); i++) {
        if (!laid_out(theme, i, width)) continue;
        if (mouse.y < origin.y + tops_[i] && i > 0) break;
        place = {int(i), 0};
        const TextBlock& block = blocks_[i];
        for (const Line& line : layouts_[i].lines) {
            if (mouse.y < origin.y + tops_[i] + line.y) break;
            if (line.first < line.last) place.byte = layouts_[i].fragments[line.first].begin;
            for (uint32_t f = line.first; f < line.last; f++) {
                const Fragment& fragment = layouts_[i].fragments[f];
                float x = origin.x + fragment.x;
                if (fragment.turned >= 0) {
                    if (mouse.x < x && f > line.first) break;
                    const Turned& t = layouts_[i].turned[size_t(fragment.turned)];
                    size_t nearest = 0;
                    for (size_t c = 1; c < t.edge.size(); c++)
                        if (std::abs(x + t.edge[c] - mouse.x) < std::abs(x + t.edge[nearest] - mouse.x)) nearest = c;
                    place.byte = t.byte[nearest];
                    continue;
                }
                if (mouse.x < x) break;
                for (uint32_t byte = fragment.begin; byte <= fragment.end;) {
                    place.byte = byte;
                    if (byte == fragment.end) break;
                    const uint32_t next = std::min(fragment.end, byte + utf8_at(std::string_view(block.text), byte).length);
                    const float w = text_width(theme, block, fragment.style, byte, next);
                    if (mouse.x < x + w / 2) break;
                    x += w;
                    byte = next;
                }
            }
        }
    }
    return place;
}

void RichText::draw(const Theme& theme, float width, TextSelection& selection, int item, bool beside) {
    const ImVec2 origin = ImGui::GetCursorScreenPos();
    ImDrawList* draw = ImGui::GetWindowDrawList();
    const float top = draw->GetClipRectMin().y - origin.y, bottom = draw->GetClipRectMax().y - origin.y;
    const float total = height(theme, width, top, bottom);
    ImGui::PushID(this);
    ImGui::SetNextItemAllowOverlap();
    ImGui::InvisibleButton("text", {std::max(1.0f, width), std::max(1.0f, total)});
    if (ImGui::IsItemHovered()) ImGui::SetMouseCursor(ImGuiMouseCursor_TextInput);
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    if (ImGui::IsItemActivated()) {
        const TextSelection::Point here{item, place_at(theme, origin, width, mouse)};
        if (!ImGui::GetIO().KeyShift || selection.anchor.item < 0) selection.anchor = here;
        selection.focus = here;
        selection.dragging = true;
        if (ImGui::IsMouseDoubleClicked(0) && here.place.block >= 0 && here.place.block < int(blocks_.size())) {  // the word
            const std::string& text = blocks_[size_t(here.place.block)].text;
            auto part = [&](uint32_t byte) { return byte < text.size() && text[byte] != ' ' && text[byte] != '\n'; };
            uint32_t &from = selection.anchor.place.byte, &to = selection.focus.place.byte;
            while (from > 0 && part(from - 1)) from--;
            while (part(to)) to++;
            selection.dragging = false;
        }
    } else if (selection.dragging && mouse.y >= origin.y && mouse.y <= origin.y + total &&
               (!beside || (mouse.x >= origin.x && mouse.x <= origin.x + width))) {
        selection.focus = {item, place_at(theme, origin, width, mouse)};
    }
    const ImVec2 after = ImGui::GetCursorScreenPos();
    TextPlace from, to;
    if (!selection.part(item, end(), from, to)) from = to = {};
    for (size_t i = 0; i < blocks_.size(); i++)
        if (laid_out(theme, i, width) && tops_[i] <= bottom && tops_[i] + layouts_[i].height >= top)
            draw_block(theme, i, {origin.x, origin.y + tops_[i]}, width, from, to);
    ImGui::SetCursorScreenPos(after);
    ImGui::PopID();
}

TextPlace RichText::end() const {
    if (blocks_.empty()) return {0, 0};
    return {int(blocks_.size()) - 1, uint32_t(blocks_.back().text.size())};
}

std::string RichText::between(TextPlace low, TextPlace high) const {
    std::string text;
    for (int i = std::max(0, low.block); i <= high.block && i < int(blocks_.size()); i++) {
        const std::string& block = blocks_[size_t(i)].text;
        const size_t from = i == low.block ? low.byte : 0, to = i == high.block ? high.byte : block.size();
        if (i > low.block)
            text += blocks_[size_t(i)].kind == BlockKind::paragraph && blocks_[size_t(i)].marker.empty() ? "\n\n" : "\n";
        if (from < to) text += block.substr(std::min(from, block.size()), to - from);
    }
    return text;
}

}  // namespace vkqat
