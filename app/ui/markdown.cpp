#include "app/ui/markdown.h"

#include <fmt/format.h>
#include <md4c.h>

#include <functional>
#include <utility>

#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr size_t longest_block = 4096;  // a longer paragraph is cut, so that it can be laid out piece by piece

class Parser {
public:
    std::vector<TextBlock> blocks;

    int enter(MD_BLOCKTYPE type, void* detail) {
        switch (type) {
            case MD_BLOCK_QUOTE: flush(), quote_++; break;
            case MD_BLOCK_UL: flush(), lists_.push_back({0, false}); break;
            case MD_BLOCK_OL: flush(), lists_.push_back({static_cast<MD_BLOCK_OL_DETAIL*>(detail)->start, true}); break;
            case MD_BLOCK_LI: {
                flush();
                const auto* item = static_cast<MD_BLOCK_LI_DETAIL*>(detail);
                if (lists_.empty()) break;
                marker_ = item->is_task            ? (item->task_mark == ' ' ? "☐" : "☑")
                          : lists_.back().numbered ? std::to_string(lists_.back().next++) + "."
                                                   : "•";
                break;
            }
            case MD_BLOCK_HR:
                open(BlockKind::rule);
                flush();
                break;
            case MD_BLOCK_H:
                open(BlockKind::heading);
                block_.level = int(static_cast<MD_BLOCK_H_DETAIL*>(detail)->level);
                break;
            case MD_BLOCK_CODE: {
                open(BlockKind::code);
                const MD_ATTRIBUTE& language = static_cast<MD_BLOCK_CODE_DETAIL*>(detail)->lang;
                if (language.text) block_.language.assign(language.text, language.size);
                break;
            }
            case MD_BLOCK_TABLE:
                open(BlockKind::table);
                block_.columns = int(static_cast<MD_BLOCK_TABLE_DETAIL*>(detail)->col_count);
                break;
            case MD_BLOCK_TH:
            case MD_BLOCK_TD:
                block_.cells.push_back(uint32_t(block_.text.size()));
                if (type == MD_BLOCK_TH) style_ |= style_bold;
                break;
            case MD_BLOCK_HTML:
            case MD_BLOCK_P: open(BlockKind::paragraph); break;
            default: break;
        }
        return 0;
    }

    int leave(MD_BLOCKTYPE type) {
        switch (type) {
            case MD_BLOCK_QUOTE: flush(), quote_--; break;
            case MD_BLOCK_UL:
            case MD_BLOCK_OL: flush(), lists_.pop_back(); break;
            case MD_BLOCK_TH: style_ &= uint8_t(~style_bold); break;
            case MD_BLOCK_LI:
            case MD_BLOCK_H:
            case MD_BLOCK_CODE:
            case MD_BLOCK_TABLE:
            case MD_BLOCK_HTML:
            case MD_BLOCK_P: flush(); break;
            default: break;
        }
        return 0;
    }

    int span(MD_SPANTYPE type, bool on) {
        uint8_t bit = 0;
        switch (type) {
            case MD_SPAN_EM: bit = style_italic; break;
            case MD_SPAN_STRONG: bit = style_bold; break;
            case MD_SPAN_CODE: bit = style_code; break;
            case MD_SPAN_A: bit = style_link; break;
            case MD_SPAN_DEL: bit = style_strike; break;
            default: break;
        }
        style_ = on ? style_ | bit : style_ & uint8_t(~bit);
        return 0;
    }

    int text(MD_TEXTTYPE type, std::string_view piece) {
        if (!open_) open(BlockKind::paragraph);
        if (type == MD_TEXT_BR) piece = "\n";
        if (type == MD_TEXT_SOFTBR)
            piece = block_.kind == BlockKind::paragraph ? "\n" : " ";  // models break lines where they mean it
        if (type == MD_TEXT_NULLCHAR) piece = "\xef\xbf\xbd";
        if (type == MD_TEXT_ENTITY) {
            for (auto [name, value] : {std::pair{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&nbsp;", " "}})
                if (piece == name) piece = value;
        }
        while (!piece.empty()) {
            const size_t room = block_.text.size() < longest_block ? longest_block - block_.text.size() : 0;
            size_t take = piece.size();
            if (take > room && block_.kind != BlockKind::table) {
                take = piece.find_last_of(block_.kind == BlockKind::code ? "\n" : " \n", room);
                take = take == piece.npos ? std::min(room, piece.size()) : take + 1;
                while (take < piece.size() && take > 0 && (uint8_t(piece[take]) & 0xc0) == 0x80) take--;
            }
            if (take > 0) add(piece.substr(0, take));
            piece.remove_prefix(take);
            if (!piece.empty()) {
                const BlockKind kind = block_.kind;
                const std::string language = block_.language;
                const int level = block_.level;
                flush();
                open(kind);
                block_.level = level;
                block_.language = language;
            }
        }
        return 0;
    }

    void flush() {
        if (!open_) return;
        open_ = false;
        while (block_.kind != BlockKind::table && !block_.text.empty() && block_.text.back() == '\n') {
            block_.text.pop_back();
            if (!block_.spans.empty() && --block_.spans.back().end == block_.spans.back().begin) block_.spans.pop_back();
        }
        if (block_.text.empty() && block_.kind == BlockKind::paragraph && block_.marker.empty()) return;
        std::string all = block_.text + '\0' + block_.marker + '\0' + block_.language + char(block_.kind) + char(block_.level) +
                          char(block_.indent) + char(block_.quote);
        for (const TextSpan& s : block_.spans) all += fmt::format("{},{};", s.end, s.style);
        block_.hash = std::hash<std::string>{}(all);
        blocks.push_back(std::move(block_));
    }

private:
    struct List {
        unsigned next;
        bool numbered;
    };

    void open(BlockKind kind) {
        flush();
        block_ = {};
        block_.kind = kind;
        block_.indent = int(lists_.size());
        block_.quote = quote_;
        block_.marker = std::exchange(marker_, {});
        open_ = true;
    }

    void add(std::string_view piece) {
        const auto begin = uint32_t(block_.text.size());
        block_.text += utf8_lossy(piece);
        const auto end = uint32_t(block_.text.size());
        if (!block_.spans.empty() && block_.spans.back().style == style_ && block_.spans.back().end == begin)
            block_.spans.back().end = end;
        else
            block_.spans.push_back({begin, end, style_});
    }

    TextBlock block_;
    bool open_ = false;
    uint8_t style_ = 0;
    int quote_ = 0;
    std::string marker_;
    std::vector<List> lists_;
};

}  // namespace

std::vector<TextBlock> parse_markdown(std::string_view text) {
    Parser parser;
    MD_PARSER md{};
    md.flags = MD_DIALECT_GITHUB | MD_FLAG_NOHTML;
    md.enter_block = [](MD_BLOCKTYPE type, void* detail, void* self) { return static_cast<Parser*>(self)->enter(type, detail); };
    md.leave_block = [](MD_BLOCKTYPE type, void*, void* self) { return static_cast<Parser*>(self)->leave(type); };
    md.enter_span = [](MD_SPANTYPE type, void*, void* self) { return static_cast<Parser*>(self)->span(type, true); };
    md.leave_span = [](MD_SPANTYPE type, void*, void* self) { return static_cast<Parser*>(self)->span(type, false); };
    md.text = [](MD_TEXTTYPE type, const MD_CHAR* piece, MD_SIZE size, void* self) {
        return static_cast<Parser*>(self)->text(type, std::string_view(piece, size));
    };
    md_parse(text.data(), MD_SIZE(text.size()), &md, &parser);
    parser.flush();
    return std::move(parser.blocks);
}

}  // namespace vkqat
