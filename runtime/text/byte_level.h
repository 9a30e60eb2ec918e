// GPT-2's alphabet for bytes: each byte as a visible character, so that a vocabulary is text. Printable Latin-1 stands for
// itself, the other 68 bytes are U+0100 and up (space is U+0120, written as G with a dot).
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace vkqat {

const std::array<std::string, 256>& byte_level_alphabet();  // byte -> its character in UTF-8

std::string to_byte_level(std::string_view bytes);
std::optional<std::string> from_byte_level(std::string_view text);  // nothing where a character is not of the alphabet

}  // namespace vkqat
