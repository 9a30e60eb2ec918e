// The people, places and things of the sample corpus.
#pragma once

#include <random>
#include <string>

#include "trainer/sample_grammar.h"

namespace vkqat {

std::string number_word(size_t number);  // "zero" to "twenty"

// The slots of a story's people: n, he, him, his, kid ("girl"), intro ("a little girl named Lily"); the friend's f, fhe, fhim,
// fhis, fintro; the grown-up's p ("mom"), phe, phim, phis. The three have different names.
void add_people(Slots& slots, std::mt19937_64& random);

// The slots of its place: place, at ("in the park"), to ("to the park"), sight (a sentence about it), thing, things (found
// there). Things with their colors: c, toy; c2, toy2 (both different from the first); game (a toy to play with), bedtoy. food,
// food2. animal; big, baby (another animal and its young). Spots, three different ones each: in1.. ("under the bed"), out1.. ("by
// the gate"), spot1.. (all inside or all outside).
void add_things(Slots& slots, std::mt19937_64& random);

}  // namespace vkqat
