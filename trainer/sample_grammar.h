// Text templates with choices, from which the sample corpus is made.
#pragma once

#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>

namespace vkqat {

// The names that a template may use, and what they stand for.
using Slots = std::map<std::string, std::string, std::less<>>;

// Expands a template:
//   {one|two|three}   one of the alternatives, which may hold choices themselves; an empty one is allowed
//   [name]            the slot's value; [Name] with its first letter capital
//   <name=one|two>    chooses as {one|two} does, keeps the result as slot `name` and writes nothing
//   a~                "a" or "an", as the next letter asks; A~ likewise
// Spaces that empty choices leave doubled or at a line's end are dropped. The same state of `random` gives the same text on every
// platform. Error: an unknown slot, an unbalanced bracket.
std::string expand(std::string_view text, Slots& slots, std::mt19937_64& random);

std::string capitalized(std::string text);

// One of the items, by own arithmetic.
size_t pick_index(std::mt19937_64& random, size_t count);
template <class Item>
const Item& pick(std::mt19937_64& random, std::span<const Item> items) {
    return items[pick_index(random, items.size())];
}
template <class Item, size_t N>
const Item& pick(std::mt19937_64& random, const Item (&items)[N]) {
    return items[pick_index(random, N)];
}

}  // namespace vkqat
