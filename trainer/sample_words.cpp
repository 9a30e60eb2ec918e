#include "trainer/sample_words.h"

#include "runtime/support/error.h"

namespace vkqat {

namespace {

constexpr const char* girls[] = {"Lily", "Mia", "Anna", "Sara", "Lucy", "Emma", "Rosa", "Nina", "Ella", "Zoe", "May", "Kim"};
constexpr const char* boys[] = {"Tom", "Ben", "Max", "Sam", "Tim", "Jack", "Leo", "Finn", "Paul", "Omar", "Adam", "Dan"};
constexpr const char* pets[] = {"Pip", "Dot", "Momo", "Bobo", "Nibbles", "Coco", "Bean", "Puff", "Tuck", "Hop", "Berry", "Rusty"};
constexpr const char* kinds[] = {"rabbit",   "fox",    "bear",     "duck", "frog",   "mouse",
                                 "squirrel", "turtle", "hedgehog", "owl",  "kitten", "puppy"};
constexpr const char* looks[] = {"little", "kind", "happy", "brave", "quiet", "funny", "clever", "gentle", "curious", "cheerful"};

constexpr const char* colors[] = {"red", "blue", "green", "yellow", "pink", "orange", "purple", "white", "black", "brown"};
// Toys to play with, then other things to have.
constexpr size_t games = 10;
constexpr const char* toys[] = {"ball", "doll",    "toy car", "toy boat", "drum", "toy train", "balloon",
                                "kite", "robot",   "puzzle",  "book",     "hat",  "scarf",     "bell",
                                "cup",  "blanket", "bag",     "umbrella", "box",  "coat"};
constexpr const char* soft_toys[] = {"doll", "blanket", "teddy bear", "toy rabbit", "pillow"};
constexpr const char* foods[] = {"apple", "cookie", "pear", "banana", "sandwich", "egg", "carrot", "muffin", "orange", "cupcake"};
constexpr const char* animals[] = {"cat", "dog", "bird", "hen", "goat", "snail", "lamb", "ant"};

struct Place {
    const char* name;
    const char* at;
    const char* sight;
    const char* thing;
    const char* things;
};
constexpr Place places[] = {
    {"park", "in",
     "{The sun was warm, and children played on the swings.|There were tall trees and a long slide.|Birds sang in the trees.}",
     "leaf", "leaves"},
    {"garden", "in", "{The flowers were red and yellow.|Bees flew from flower to flower.|It smelled of flowers.}", "flower",
     "flowers"},
    {"forest", "in", "{The trees were tall and green.|The wind made the leaves dance.|It was cool and quiet there.}", "nut",
     "nuts"},
    {"beach", "at", "{The waves were blue and white.|The sand was warm.|The sea was calm that day.}", "shell", "shells"},
    {"river", "by", "{The water was clear and cold.|Little fish swam in the water.|The water ran over the rocks.}", "stone",
     "stones"},
    {"farm", "on", "{The cows ate the grass.|The hens ran here and there.|A horse stood by the fence.}", "egg", "eggs"},
    {"hill", "on", "{The wind was strong up there.|They could see far over the land.|The grass was tall and soft.}", "stone",
     "stones"},
    {"pond", "by", "{Three ducks swam on the water.|The frogs sang a song.|The water was still.}", "feather", "feathers"},
    {"meadow", "in", "{The grass was full of flowers.|The sun was high in the sky.|Butterflies flew all around.}", "flower",
     "flowers"},
    {"field", "in", "{The grass was wet.|There was a swing on the old tree.|The sun was bright.}", "leaf", "leaves"},
    {"lake", "at", "{The lake was big and blue.|A small boat was on the water.|The water was warm.}", "shell", "shells"},
};
constexpr const char* spots_inside[] = {"under the bed", "behind the door", "in the big box", "on the table", "under the chair",
                                        "in the basket", "on the shelf",    "under the rug",  "by the window"};
constexpr const char* spots_outside[] = {"under the old tree", "behind the big rock", "in the tall grass", "by the fence",
                                         "behind the house",   "under the bench",     "next to the well",  "behind the bush",
                                         "by the gate",        "behind the barn",     "near the bridge"};
struct Mother {
    const char* big;
    const char* baby;
};
constexpr Mother mothers[] = {{"hen", "chick"}, {"cat", "kitten"}, {"dog", "puppy"}, {"duck", "duckling"}, {"sheep", "lamb"}};

// Three different spots as slots.
template <size_t N>
void add_spots(Slots& s, const std::string& name, const char* const (&spots)[N], std::mt19937_64& random) {
    static_assert(N % 2 == 1, "twice a step never comes back to the first spot");
    size_t first = pick_index(random, N), step = 1 + pick_index(random, N - 1);
    for (size_t i = 0; i < 3; ++i) s[name + std::to_string(i + 1)] = spots[(first + i * step) % N];
}

// A name and the words for it; `prefix` is "" or "f".
void add_person(Slots& s, const std::string& prefix, bool animal, bool she, std::mt19937_64& random) {
    std::string name = animal ? pick(random, pets) : she ? pick(random, girls) : pick(random, boys);
    std::string kid = animal ? pick(random, kinds) : she ? "girl" : "boy";
    std::string look = pick(random, looks);
    s[prefix.empty() ? "n" : prefix] = name;
    s[prefix + "he"] = she ? "she" : "he";
    s[prefix + "him"] = she ? "her" : "him";
    s[prefix + "his"] = she ? "her" : "his";
    s[prefix + "kid"] = kid;
    s[prefix + "look"] = look;
    s[prefix + "intro"] = "a~ " + look + " " + kid + " named " + name;
}

}  // namespace

std::string number_word(size_t number) {
    constexpr const char* words[] = {"zero",     "one",     "two",     "three",     "four",     "five",     "six",
                                     "seven",    "eight",   "nine",    "ten",       "eleven",   "twelve",   "thirteen",
                                     "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"};
    if (number >= std::size(words)) fail("sample corpus: no word for the number {}", number);
    return words[number];
}

void add_people(Slots& s, std::mt19937_64& random) {
    bool animal = pick_index(random, 3) == 0;
    bool she = pick_index(random, 2) == 0;
    // Two of one gender are told apart by their names; mostly he and she do it.
    bool friend_she = pick_index(random, 4) == 0 ? she : !she;
    add_person(s, "", animal, she, random);
    do {
        add_person(s, "f", animal, friend_she, random);
    } while (s["f"] == s["n"]);
    bool woman = pick_index(random, 2) == 0, old = pick_index(random, 4) == 0;
    s["p"] = woman ? (old ? "grandma" : "mom") : (old ? "grandpa" : "dad");
    s["phe"] = woman ? "she" : "he";
    s["phim"] = woman ? "her" : "him";
    s["phis"] = woman ? "her" : "his";
}

void add_things(Slots& s, std::mt19937_64& random) {
    const Place& place = pick(random, places);
    s["place"] = place.name;
    s["at"] = std::string(place.at) + " the " + place.name;
    s["to"] = std::string("to the ") + place.name;
    s["thing"] = place.thing;
    s["things"] = place.things;
    s["sight"] = expand(place.sight, s, random);
    size_t color = pick_index(random, std::size(colors)), toy = pick_index(random, std::size(toys));
    s["c"] = colors[color];
    s["c2"] = colors[(color + 1 + pick_index(random, std::size(colors) - 1)) % std::size(colors)];
    s["toy"] = toys[toy];
    s["toy2"] = toys[(toy + 1 + pick_index(random, std::size(toys) - 1)) % std::size(toys)];
    s["game"] = toys[pick_index(random, games)];
    s["bedtoy"] = pick(random, soft_toys);
    size_t food = pick_index(random, std::size(foods));
    s["food"] = foods[food];
    s["food2"] = foods[(food + 1 + pick_index(random, std::size(foods) - 1)) % std::size(foods)];
    s["animal"] = pick(random, animals);
    const Mother* mother = &pick(random, mothers);
    while (s["animal"] == mother->big || s["animal"] == mother->baby) mother = &pick(random, mothers);
    s["big"] = mother->big;
    s["baby"] = mother->baby;
    add_spots(s, "in", spots_inside, random);
    add_spots(s, "out", spots_outside, random);
    if (pick_index(random, 2))
        add_spots(s, "spot", spots_inside, random);
    else
        add_spots(s, "spot", spots_outside, random);
}

}  // namespace vkqat
