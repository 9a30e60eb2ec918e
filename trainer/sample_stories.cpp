// The stories of the sample corpus: plots as templates (sample_grammar.h) over the people and things of sample_words.h.
#include "trainer/sample_corpus.h"
#include "trainer/sample_grammar.h"
#include "trainer/sample_words.h"

namespace vkqat {

namespace {

struct Plot {
    const char* story;
    const char* questions[3];  // about it, with their answers
    bool knows_friend = true;  // the opening may name the friend
};

constexpr const char* openings[] = {
    "{Once upon a time|Once|Long ago}, there was [intro]. {[He] lived {near the [place]|in a small house}{| with [his] "
    "[p]}.|"
    "[N] liked to play [at].|Everyone liked [n].|[He] liked to {sing|run|draw|read|dance|jump|paint}.} ",
    "[N] was a~ [look] [kid]{| who liked to {sing|run|draw|read|dance|jump|paint}}. {[He] lived with [his] [p] near the [place].|"
    "[He] lived in a~ {small|big|[c2]} house.|} ",
    "There once was [intro]. {Every day [he] played [at].|[N] lived near the [place].|[He] was always {happy|kind to "
    "everyone}.} ",
    "{In a small house|In a house} near the [place] lived [intro]. ",
};

// Openings that name the friend.
constexpr const char* openings_with_friend[] = {
    "{Once upon a time|Once|Long ago}, there was [intro]. [N] had a {good|best} friend named [f]. {They did everything "
    "together.|} ",
    "[N] and [f] were {good|best|old} friends. {They {played|walked|ran|sat} [at] every day.|They did everything together.|They "
    "liked to {sing|run|draw|dance|jump} together.} ",
    "[N] was a~ [look] [kid]. [He] had a~ [flook] friend named [f]. ",
    "There once was [intro]. [N] and [f] were best friends. ",
};

constexpr Plot plots[] = {
    // A thing is lost and found.
    {"{[N] had a~ [c] [toy]. It was [his] favorite thing.|[N] had a~ [c] [toy] that [his] [p] gave [him].} {[He] took it "
     "everywhere.|[He] loved it very much.|}\n"
     "One {day|morning}, {the [toy] was gone|[n] could not find the [toy]}. {[N] was {very |}sad.|[He] began to cry.|\"Where is "
     "my [toy]?\" [he] {asked|said}.} [He] looked [spot1]. {It was not there.|The [toy] was not there.|No [toy]!} {Then "
     "[he]|[He]} looked [spot2]. {It was not there{| either}.|There was only a~ [animal].|There was nothing.}\n"
     "{[Friend] came to help.|\"I will help you,\" said [friend].|[Friend] saw that [n] was sad. \"Let us look together,\" [f] "
     "said.} {They looked and looked.|They looked everywhere.|} {At last|Then}, [f] looked [spot3]. {\"Here it is!\" [f] "
     "{said|cried}.|\"I found it!\" [f] {said|cried}.|The [c] [toy] was there!}\n"
     "{[N] was so happy.|[N] smiled.|[N] gave [f] a big hug.} {\"Thank you, [f]!\" [he] said.|\"You are a good friend,\" [n] "
     "said.} {After that, [n] always put the [toy] in a safe place.|They played with the [toy] all day.|From that day on, [n] "
     "took good care of the [toy].}",
     {"Question: What did [n] lose?\nAnswer: [N] lost [his] [c] [toy].",
      "Question: Where was the [toy]?\nAnswer: The [toy] was [spot3].",
      "Question: Who found the [toy]?\nAnswer: [F] found the [toy]."}},

    // Food is shared.
    {"[N] had a~ {big|sweet|fresh} [food]. [He] wanted to eat it [at]. {[Sight]|}\n"
     "{[Friend] came by.|[Friend] was there, too.|Then [n] saw [friend].} [F] {looked sad|was very hungry|had no food}. {\"What "
     "is wrong?\" asked [n].|\"Are you hungry?\" asked [n].} {\"I forgot my [food2] at home,\" said [f].|\"I have nothing to "
     "eat,\" said [f].|\"My [food2] fell in the mud,\" said [f].}\n"
     "[N] {thought about it|looked at the [food]|smiled}. {\"We can share,\" [he] said.|\"You can have half of my [food],\" [he] "
     "said.|\"Let us eat it together,\" [he] said.} [He] {broke|cut} the [food] in two and gave one half to [f]. {They ate it "
     "together.|They sat down and ate.|It tasted very good.}\n"
     "{The next day, [f] brought a~ [food2] and shared it with [n].|\"Thank you,\" said [f]. \"You are very kind.\"|[F] was not "
     "hungry any more.} {Sharing made them both happy.|[N] was glad that [he] shared.|From then on, they always shared their "
     "food.}",
     {"Question: What did [n] share?\nAnswer: [N] shared [his] [food] with [f].",
      "Question: Who got half of the [food]?\nAnswer: [F] got half of the [food].",
      "Question: Where did [n] want to eat?\nAnswer: [N] wanted to eat [at]."}},

    // Rain comes.
    {"{[N] and [friend] played with a~ [c] [game] [at].|[N] took [his] [c] [game] [to] and played with [friend].} {[Sight]|They "
     "had a lot of fun.|}\n"
     "{Soon|Then|After a while}, {dark clouds came|the sky grew dark|a cold wind came}. {It began to rain.|Drops of rain "
     "fell.|The rain came down fast.} {\"Oh no! The [game] will get wet!\" said [n].|\"We must go!\" said [f].|\"I do not like "
     "the rain,\" said [n].} They ran and {hid|sat} <dry=under a big tree|under the old bridge|in a small hut|under a big "
     "umbrella>[dry].\n"
     "{They {sang a song|told stories|played a game} and waited.|[N] was a little scared, but [f] held [his] hand.|They sat "
     "close and kept warm.} {At last|Soon}, the rain stopped. {The sun came out.|The sky was blue again.} {\"Look!\" said "
     "<seer=[n]|[f]>[seer]. \"A rainbow!\"|They saw a big rainbow.} {It was red, yellow, green and blue.|It was beautiful.|}\n"
     "{They jumped in the puddles and laughed.|They were happy that the rain came.|They went home with wet feet and big smiles.}",
     {"Question: Where did they go when it rained?\nAnswer: They went [dry].",
      "Question: Who was with [n]?\nAnswer: [F] was with [n].",
      "Question: What color was the [game]?\nAnswer: The [game] was [c]."}},

    // A new friend.
    {"{One day, a new [fkid] came [to].|There was a new [fkid] [at].} {[Fhis] name was [f].|The [fkid]'s name was [f].} [F] was "
     "{shy|quiet|all alone} and {sat [out1]|stood [out1]|did not say a word}.\n"
     "[N] {saw [f]|looked at [f]|felt sorry for [f]} and {walked over|went to say hello}. {\"Hello! I am [n],\" [he] said.|\"Hi! "
     "My name is [n],\" [he] said.} \"{Do you want to|Would you like to} play with my [game]?\" {[F] looked at the [c] "
     "[game].|[F] was surprised.|[F] looked up.} {\"Yes, please,\" [fhe] said.|\"Yes, I would like that,\" [fhe] said.|[F] "
     "nodded and smiled.}\n"
     "{They played until the sun went down.|They played all day long.|They ran and laughed together.} {\"Will you come again "
     "tomorrow?\" asked [n]. \"Yes!\" said [f].|When it was time to go, [f] said, \"That was fun. Thank you!\"|[F] was not shy "
     "any more.} {[N] was glad to have a new friend.|Now [f] had a friend.|After that day, they were good friends.}",
     {"Question: Who was new?\nAnswer: [F] was new.",
      "Question: What did [n] and [f] play with?\nAnswer: They played with a~ [c] [game].",
      "Question: Where was [f]?\nAnswer: [F] was [at]."},
     false},

    // Stuck in a tree.
    {"<stuck=kite|balloon|hat|scarf>[N] had a~ [c] [stuck]. {[He] ran with it [at].|[He] took it [to].} {[Sight]|}\n"
     "{A strong wind came.|Then the wind blew hard.|Whoosh! The wind came.} The [stuck] flew up and {got stuck in|landed in} a "
     "{tall|big} tree. {\"Oh no!\" cried [n].|[N] was sad.|\"My [stuck]!\" [n] said.} {[He] jumped and jumped, but the [stuck] "
     "was too high.|[He] tried to reach it with a stick, but the stick was too short.|[He] tried to climb the tree, but [he] "
     "slid down.}\n"
     "{[His] [p] came.|[N] called [his] [p].|[N] ran home to get [his] [p].} {\"Do not cry,\" said [P].|\"I can help,\" said "
     "[P].|\"Let me try,\" said [P].} [Phe] {got a long ladder and climbed up|stood on a box and reached up|shook the tree}. "
     "{Down came the [stuck]!|The [stuck] came down.|Soon [n] had the [stuck] again.}\n"
     "{\"Thank you, [P]!\" said [n].|[N] hugged [his] [p].} {[He] held the [stuck] tight all the way home.|They went home "
     "together.|Then they played with the [stuck] together.}",
     {"Question: What was in the tree?\nAnswer: The [c] [stuck] was in the tree.",
      "Question: Who helped [n]?\nAnswer: [His] [p] helped [n].",
      "Question: What color was the [stuck]?\nAnswer: The [stuck] was [c]."}},

    // A baby animal looks for its mother.
    {"{[N] walked [to].|[N] was on [his] way home.|[N] played [at].} {[Sight]|} {Then [he]|[He]} heard a {small|soft|sad} sound. "
     "{[He] looked [out1]. There was|It came from [out1]. It was} a {tiny|little|small} [baby]. {It was cold.|It was alone.|It "
     "was crying.}\n"
     "{\"What is wrong, little [baby]?\" asked [n].|\"Why are you sad?\" asked [n].} {\"I lost my mom,\" said the [baby].|\"I "
     "cannot find my mom,\" said the [baby].} {\"Do not worry. I will help you,\" said [n].|\"We will find her,\" said [n].}\n"
     "{They asked a~ [animal].|First they met a~ [animal].} \"Did you see a~ [big]?\" {\"No,\" said the [animal].|\"I did not,\" "
     "said the [animal]. \"I am sorry.\"} Then they {asked|met} [friend]. {\"Yes! I saw a~ [big] [out2],\" said [f].|\"I saw a "
     "[big] [out2],\" [f] said.} {They ran there.|They went to look.}\n"
     "The mother [big] was [out2]! {She was so happy to see her [baby].|\"My baby!\" she said.|She hugged her [baby].} {\"Thank "
     "you, [n],\" said the mother.|[N] smiled and went home.|[N] was proud that [he] could help.}",
     {"Question: What did [n] find?\nAnswer: [N] found a~ [baby].",
      "Question: Where was the mother?\nAnswer: The mother was [out2].",
      "Question: Who saw the mother?\nAnswer: [F] saw the mother."}},

    // Counting.
    {"{[N] wanted to find [things].|[N] liked to look for [things].} {[He] went [to] with a~ {small|big|[c]} bag.|[He] took a~ "
     "[c] "
     "basket [to].} {[Sight]|}\n"
     "First [he] found [a] [things]. Then [he] found [b] more. \"Now I have [sum] [things]!\" [he] {said|counted}. {[He] was "
     "{happy|proud}.|[He] {jumped|danced} for joy.|}\n"
     "{On the way home, [he] met [friend].|[Friend] came by.|Then [friend] came.} {\"Oh, [things]! They are so pretty,\" said "
     "[f].|\"I did not find any [things],\" said [f].|\"I like your [things],\" said [f].} {[N] was kind.|[N] smiled.|} [He] "
     "gave [give] of the [things] to [f]. Now [n] had [rest] [things] and [f] had [give].\n"
     "{\"Thank you!\" said [f].|[F] was very happy.|They put the [things] on the table and counted them again.} {They went home "
     "together.|It was a good day.|[N] showed the rest to [his] [p].}",
     {"Question: How many [things] did [n] find?\nAnswer: [N] found [sum] [things].",
      "Question: How many [things] did [f] get?\nAnswer: [F] got [give] [things].",
      "Question: How many [things] did [n] have at the end?\nAnswer: [N] had [rest] [things]."}},

    // Baking.
    {"<baked=cake|pie|bread|soup>{It was a cold day.|It was a rainy day.|[N] was hungry.} [N] and [his] [p] {wanted to "
     "make|made} some [baked]. {\"Can I help?\" asked [n]. \"Yes, please,\" said [P].|\"Wash your hands first,\" said [P].|[N] "
     "put on a big [c] hat.}\n"
     "{[P] got the pot, and [n] got the spoon.|[N] took the milk and [P] took the eggs.|[N] put everything on the table.} {They "
     "mixed it in a big bowl.|[N] mixed and mixed.|[N] spilled some milk, but [P] only laughed.} {Soon it smelled so good.|They "
     "waited and waited.|The kitchen grew warm.}\n"
     "{At last, the [baked] was ready.|\"The [baked] is ready!\" said [P].} {\"It is hot. Wait a little,\" said [P].|[N] could "
     "not wait to try it.|[N] tried a little. It was good!} They {gave some|took some} to [friend], who {was sick in bed|lived "
     "next door|was all alone}. {\"This is the best [baked]!\" said [f].|[F] ate it all and felt better.|[F] said, \"Thank you, "
     "[n]. It is so good!\"}\n"
     "{[N] was proud.|[N] was very happy.} {It is nice to make things together.|Now [n] wants to cook every day.|\"Let us make "
     "more tomorrow,\" [he] said.}",
     {"Question: What did they make?\nAnswer: They made some [baked].",
      "Question: Who made the [baked] with [n]?\nAnswer: [His] [p] made the [baked] with [n].",
      "Question: Who got some of the [baked]?\nAnswer: [F] got some of the [baked]."}},

    // Night.
    {"{It was night.|It was late.|The moon was in the sky.} [N] was in bed with [his] [c] [bedtoy], but [he] could not sleep. "
     "{Then [he]|[He]} heard a {strange|loud|soft} sound. {Tap, tap, tap!|Bump!|Scratch, scratch!} {[N] was scared.|[N] hid "
     "under the blanket.|\"Is it a monster?\" [he] thought.}\n"
     "{\"[P]!\" [he] called.|[N] called [his] [p].} [P] came in with a lamp. {\"What is it?\" [phe] asked.|\"Why are you not "
     "asleep?\" [phe] asked.} {\"There is something [in1],\" said [n].|\"I heard a sound,\" said [n].} {[P] opened the door and "
     "looked.|They looked together.|[P] held [his] hand, and they looked.}\n"
     "It was only <noise=a small cat|the wind|a little mouse|a branch of the tree|the old clock|a~ owl>[noise]! {[N] "
     "laughed.|\"Oh!\" said [n]. \"I am not scared any more.\"|They both laughed.} {[P] sang a song.|[P] told [him] a story.|[P] "
     "gave [him] a kiss.} {Soon [n] was asleep.|[N] closed [his] eyes and slept.|\"Good night, [n],\" said [P]. \"Good night, "
     "[P],\" said [n].}",
     {"Question: What made the sound?\nAnswer: It was [noise].",
      "Question: Who came with a lamp?\nAnswer: [His] [p] came with a lamp.",
      "Question: What did [n] have in bed?\nAnswer: [N] had [his] [c] [bedtoy] in bed."}},

    // Something breaks, and the truth is told.
    {"<broken=cup|bowl|lamp|plate|window|clock>{[N] and [friend] played with a ball in the house.|[N] and [friend] ran in the "
     "house.|[N] danced in the kitchen with [friend].} {\"Be careful in here,\" [his] [p] said, but [n] did not listen.|[His] "
     "[p] was in the yard.} {Crash!|Bang!|Oh no!} The [c] [broken] {broke|was broken}.\n"
     "{[N] was afraid.|[N] felt bad.|[N] wanted to run away.} {\"[P] will be angry,\" [he] thought.|\"What should I do?\" [he] "
     "thought.|\"You should tell the truth,\" said [f].} {[P] came in. \"Who did this?\" [phe] asked.|[P] came back and saw the "
     "[broken].} {[N] could say that the [animal] did it. But that was not true.|[N] looked down.|} \"I broke the [broken]. I am "
     "sorry,\" said [n].\n"
     "{[P] was quiet. Then [phe] smiled.|[P] was not angry.|[P] gave [him] a hug.} {\"Thank you for telling the truth,\" [phe] "
     "said.|\"It is good that you told me,\" said [P].} {Together they cleaned the floor.|They fixed the [broken] with "
     "glue.|They picked up the pieces.} {[N] felt much better.|From then on, [n] played outside.|[N] learned that it is best to "
     "tell the truth.}",
     {"Question: What did [n] break?\nAnswer: [N] broke the [broken].",
      "Question: What color was the [broken]?\nAnswer: The [broken] was [c].",
      "Question: Was [P] angry?\nAnswer: No, [P] was not angry."}},

    // A seed grows.
    {"<plant=flower|apple tree|pumpkin|carrot|tomato|sunflower>{One spring day, [n] found|[His] [p] gave [n]|[Friend] gave [n]} "
     "a {tiny|small|little} seed. {\"What is it?\" [he] asked.|\"Put it in the ground,\" said [his] [p].|\"It is so small,\" "
     "said [n].} [N] put the seed in the ground [out3] and gave it water.\n"
     "{[He] waited for one day. Nothing came.|The next day, [he] looked. There was nothing.} {\"Be patient,\" said [P].|\"It "
     "needs sun, water and time,\" said [P].|\"It takes time to grow,\" said [P].} {Every {day|morning}, [n] gave it water.|[N] "
     "gave it water day after day.} {[He] sang to it, too.|The sun was warm and the rain was soft.|}\n"
     "{Then one morning|After many days|At last}, there was a {small|tiny} green leaf! {It grew and grew.|It grew taller every "
     "day.} {By summer|Soon|In the end}, it was a {big|fine|beautiful} [plant]. {\"I did it!\" said [n].|\"Look, [P]!\" said "
     "[n].|[N] was so proud.} {[He] showed it to [his] [p].|Everyone came to see it.|\"It is wonderful,\" said [P].} {[N] "
     "learned to wait.|Good things take time.|The next spring, [n] planted many more seeds.}",
     {"Question: What grew from the seed?\nAnswer: A~ [plant] grew from the seed.",
      "Question: Where did [n] put the seed?\nAnswer: [N] put the seed in the ground [out3].",
      "Question: What did [n] give the seed?\nAnswer: [N] gave the seed water."}},

    // Learning something.
    {"<skill=swim|ride a bike|skate|climb a tree|jump rope|whistle|sing>{[N] wanted to learn to [skill].|[N] could not [skill].} "
     "{[Friend] could do it.|[Friend] could do it very well.} {[N] tried, but it was hard.|The first time, [he] could not do it "
     "at all.|[N] was afraid to try.} {\"I will never learn it,\" [he] said.|\"It is too hard,\" [he] said.|[N] wanted to give "
     "up.}\n"
     "{\"I will show you,\" said [f].|\"Try again,\" said [his] [p].|\"You can do it,\" said [f]. \"I will help you.\"} {[N] "
     "tried again and again.|They practiced every day.|[N] tried ten times.} {Sometimes it went wrong, but [he] did not "
     "stop.|[He] did not give up.|Each day it was a little better.}\n"
     "{Then one day|At last|In the end}, [n] could do it! {\"Look at me!\" [he] {said|cried}. \"I can [skill]!\"|\"I can "
     "[skill]!\" [he] shouted.} {[His] [p] clapped.|[F] was happy for [him].|Everyone clapped.} {[N] was very proud.|[N] was "
     "happy that [he] did not give up.|Now [n] helps other children to learn it.}",
     {"Question: What did [n] learn?\nAnswer: [N] learned to [skill].",
      "Question: Did [n] give up?\nAnswer: No, [n] did not give up.",
      "Question: Who wanted to learn to [skill]?\nAnswer: [N] wanted to learn to [skill]."}},

    // A race.
    {"{[N] and [friend] wanted to see who was faster.|\"I am faster than you,\" said [friend]. \"Let us see!\" said [n].|There "
     "was a race [at], and [n] ran against [friend].} {They wanted to run to the {big tree|old bridge|blue house}.|The first one "
     "at the {big tree|old bridge|blue house} would win.} {\"One, two, three, go!\"|\"Ready? Go!\" they cried.}\n"
     "{[N] ran as fast as [he] could.|They ran very fast.|At first, [f] was in front.} {Then|Suddenly|After a while}, [f] {fell "
     "over a stone|fell in the mud|fell down} and hurt [fhis] {knee|foot|hand}. {[N] could win now.|[N] was in front now.|} But "
     "[n] {stopped|turned around|ran back}. {\"Are you all right?\" [he] asked.|\"Let me help you up,\" [he] said.} {\"You will "
     "lose the race,\" said [f].|\"But what about the race?\" asked [f].} {\"You are more important,\" said [n].|\"I do not "
     "care. You are my friend,\" said [n].}\n"
     "{They walked to the end together.|Hand in hand, they went on.} {They both won.|Nobody lost.|Everyone clapped for both of "
     "them.} {They each got a~ [food].|[F] was glad to have a friend like [n].|It is better to be kind than to win.}",
     {"Question: Who fell?\nAnswer: [F] fell.", "Question: Who stopped to help?\nAnswer: [N] stopped to help.",
      "Question: Who won the race?\nAnswer: They both won."}},

    // A birthday.
    {"{It was [n]'s birthday.|Today was [n]'s birthday.} {[He] was <age=four|five|six|seven>[age] years old.|[He] was very "
     "excited.|[He] woke up early.} {[His] [p] made a big cake.|There was a cake with candles.|There were balloons on the "
     "wall.}\n"
     "[Friend] came with a {big|small|round} box. {\"This is for you,\" said [f].|\"Happy birthday!\" said [f].} {\"What is in "
     "it?\" asked [n].|[N] shook the box.|\"Can I open it?\" asked [n].} {[He] opened it. Inside was|In the box was} a~ [c] "
     "[toy]! {\"It is just what I wanted!\" said [n].|\"Thank you, [f]! I love it,\" said [n].|[N]'s eyes were big.}\n"
     "[His] [p] gave [him] a~ [c2] [toy2]. {[N] liked that, too.|That was a good gift, too.|} {Then they ate cake and played "
     "games.|They sang a song and ate the cake.|[N] gave everyone a piece of cake.} {\"This is the best day!\" said [n].|At "
     "night, [n] was tired but happy.|[N] went to bed with the [toy] in [his] arms.}",
     {"Question: What did [f] give to [n]?\nAnswer: [F] gave [n] a~ [c] [toy].",
      "Question: What did [P] give to [n]?\nAnswer: [P] gave [n] a~ [c2] [toy2].",
      "Question: Who had a birthday?\nAnswer: [N] had a birthday."}},

    // A trade.
    {"[N] had a~ [c] [toy]. [Friend] had a~ [c2] [toy2]. {[N] looked at the [toy2]. \"I like your [toy2],\" [he] said.|\"Your "
     "[toy2] is so nice,\" said [n].} {\"And I like your [toy],\" said [f].|\"I would like to have your [toy],\" said [f].}\n"
     "{[N] had an idea.|[N] thought for a while.|They looked at each other.} "
     "{\"Do you want to trade{ for one day|, just for today|}?\" asked [n].|\"Let us trade{ for one day|, just for today|},\" "
     "said [n].} {\"Yes!\" said [f].|\"That is a good idea,\" said [f].} So [n] gave the [toy] to [f], and [f] gave the [toy2] "
     "to [n]. Now [n] had the [c2] [toy2], and [f] had the [c] [toy].\n"
     "{They played [at] all day.|Both of them were happy.|They laughed and played.} {In the evening, they traded back.|\"Trading "
     "is fun,\" said [n].|\"Take good care of it,\" said [f]. \"I will,\" said [n].} {They were good friends.|They wanted to do "
     "it again.|[N] went home with a smile.}",
     {"Question: What did [n] give to [f]?\nAnswer: [N] gave [f] the [c] [toy].",
      "Question: What did [f] give to [n]?\nAnswer: [F] gave [n] the [c2] [toy2].",
      "Question: Who had the [toy2] first?\nAnswer: [F] had the [toy2] first."}},

    // Hide and seek.
    {"[N] and [friend] played hide and seek [at]. {[Sight]|} {\"I will count,\" said [n].|[N] had to count.|\"You hide,\" said "
     "[n].} [He] closed [his] eyes and counted to ten. {\"One, two, three, four, five, six, seven, eight, nine, ten! Here I "
     "come!\"|\"Here I come!\" [he] called.} [F] {ran and hid|hid} [out3].\n"
     "[N] looked [out1]. {[F] was not there.|Nobody was there.|There was only a~ [animal].} [N] looked [out2]. {Nobody was "
     "there, either.|There was only a~ [c] [game].|\"Where can [fhe] be?\" [n] asked.} {Then [he] heard|[N] heard} a "
     "{small|funny} {laugh|sneeze}. {[N] went closer.|[N] smiled.} [He] looked [out3]. \"I found you!\" {said|cried} [n].\n"
     "{They laughed and laughed.|\"You are good at this,\" said [f].|[F] jumped out and laughed.} {Now it was [f]'s turn to "
     "count.|\"Now you count,\" said [n].} {They played until it was time to eat.|It was so much fun.|They played again and "
     "again.}",
     {"Question: Where did [f] hide?\nAnswer: [F] hid [out3].", "Question: Who counted first?\nAnswer: [N] counted first.",
      "Question: What did they play?\nAnswer: They played hide and seek."}},

    // Help for someone old.
    {"<old=man|woman>{On the way [to]|Near the [place]}, [n] saw an old [old]. The old [old] had a {heavy|big} [c] bag {and "
     "walked very slowly|and was very tired|and had to stop often}. {[N] was in a hurry, but [he] stopped.|[N] wanted to help.}\n"
     "{\"Can I help you?\" asked [n].|\"Let me take the bag,\" said [n].} {\"Oh, thank you. You are very kind,\" said the old "
     "[old].|\"That would be nice,\" said the old [old].} {The bag was heavy, but [n] was strong.|[N] took the bag with both "
     "hands.} They walked {up the hill|over the bridge|down the long road} to a small <house=white|green|blue|yellow>[house] "
     "house.\n"
     "{\"Here is something for you,\" said the old [old].|The old [old] opened the bag.} {It was|There was} a~ {sweet|big|fresh} "
     "[food]{| for [n]}. {\"Thank you!\" said [n].|[N] was surprised.} {[He] ate half of it and gave the other half to "
     "[friend].|[He] ate it on the way home.|[He] took it home and shared it with [his] [p].} {It felt good to help.|[N] was "
     "happy all day.|\"You did a good thing,\" said [P].}",
     {"Question: Who did [n] help?\nAnswer: [N] helped an old [old].",
      "Question: What color was the house?\nAnswer: The house was [house].",
      "Question: What did [n] get?\nAnswer: [N] got a~ [food]."}},

    // A sick friend.
    {"{One morning, [n] went to play with [friend].|[N] wanted to play with [friend].} But [f] was {sick|ill} and had to stay in "
     "bed. {\"I am so sad,\" said [f]. \"I cannot go [to] today.\"|\"I cannot come out and play,\" said [f].} {[N] was sad, "
     "too.|[N] wanted to help [fhis] friend.|[N] thought, \"What can I do?\"}\n"
     "{[He] went home|[N] ran home} and {made a card with a~ [c] heart|took [his] best book|picked a~ [c] flower}. {Then [he] "
     "asked [his] [p], \"Can we make soup for [f]?\"|[He] said to [his] [p], \"Can you make some hot soup?\"} {They made the "
     "soup together.|\"Of course,\" said [P].}\n"
     "[N] took the soup to [f]. {[F] ate it all.|The soup was warm and good.} {\"I brought you this, too,\" said [n].|[N] read a "
     "funny story to [f].|[N] sat by the bed and told a story.} {[F] smiled for the first time that day.|[F] felt much "
     "better.|\"Thank you. Now I feel better,\" said [f].} {Soon [f] was well, and they played [at] again.|A few days later, "
     "they could play again.|A good friend is the best medicine.}",
     {"Question: Who was sick?\nAnswer: [F] was sick.", "Question: What did [n] take to [f]?\nAnswer: [N] took soup to [f].",
      "Question: Who made soup with [n]?\nAnswer: [His] [p] made soup with [n]."}},

    // A tower falls.
    {"<tower=tower|castle|house|wall>{[N] and [friend] built|[N] and [friend] wanted to build} a {tall|big} [tower] {of [c] "
     "blocks|of stones|of wood}. {[N] put one on top of the other.|\"It must be very tall,\" said [n].|They worked all morning.} "
     "{It grew taller and taller.|Soon it was taller than [n].|It was almost done.}\n"
     "Then {a big dog ran by|the wind blew hard|[f] stepped back}, and the [tower] fell down! {\"Oh no!\" said [n].|[N] was "
     "angry.|[N] wanted to cry.} {\"All our work is gone,\" [he] said.|\"Now it is all broken,\" [he] said.} {\"Do not be sad,\" "
     "said [f]. \"We can build it again.\"|\"We know how to do it now,\" said [f]. \"Let us try again.\"}\n"
     "{So they started again.|They picked up everything and started again.} {This time, they made it wide and strong.|This time, "
     "they worked slowly.|[F] held it, and [n] built.} {In the evening, the new [tower] was even better.|Soon they had a [tower] "
     "that did not fall.} {[His] [p] came to see it. \"Well done!\" [phe] said.|They put a~ [c2] flag on top.|They were tired "
     "and "
     "proud.}",
     {"Question: What did they build?\nAnswer: They built a [tower].",
      "Question: What happened to the [tower]?\nAnswer: The [tower] fell down.",
      "Question: Did they build it again?\nAnswer: Yes, they built it again."}},

    // A wish to be someone else.
    {"<wish=fly like a bird|swim like a fish|be as big as a horse|be as strong as a bear|run like the wind>[N] had a wish. \"I "
     "want to [wish],\" [he] {said to|told} [friend]. {[F] laughed. \"You are good as you are,\" [fhe] said.|\"Why?\" asked [f]. "
     "\"I like you as you are.\"}\n"
     "{That night, [n] had a dream.|[N] fell asleep and had a dream.} In the dream, [he] could [wish]! {At first it was fun.|At "
     "first [he] was very happy.} But {then [he] was alone|[f] was not there|nobody could play with [him]}. {[He] missed [his] "
     "[p] and [f].|[He] wanted to go home.|\"I want to be [n] again,\" [he] thought.}\n"
     "{In the morning, [n] woke up in [his] own bed.|Then the sun came up, and [n] woke up.} {[He] was so glad.|\"It was only a "
     "dream!\" [he] said.} {[He] ran [to] and told [f] about it.|[He] went to [f] and told [fhim] the dream.} {\"I like being "
     "me,\" said [n].|\"You were right,\" said [n].} {They both smiled.|And they played together all day.|\"I am glad you are "
     "you,\" said [f].}",
     {"Question: What did [n] want?\nAnswer: [N] wanted to [wish].", "Question: Who had a wish?\nAnswer: [N] had a wish.",
      "Question: Was it only a dream?\nAnswer: Yes, it was only a dream."}},

    // Lost on the way.
    {"{[N] walked [to] to {see [friend]|look for [things]|find some [things]}.|[N] followed a~ [c] butterfly.} {[He] walked and "
     "walked.|[He] did not look where [he] went.|[He] went far, far away.} {Then it got dark.|Soon [he] did not know the "
     "way.|All the trees looked the same.} \"{I am lost!|Where am I?|How do I get home?}\" [he] {said|cried}.\n"
     "{[N] was scared, but [he] tried to be brave.|[N] sat down and cried.|[N] felt very small.} Then a~ <guide=owl|old "
     "turtle|white horse|brown dog|small bird>[guide] came. {\"Why are you sad?\" asked the [guide].|\"What is wrong?\" asked "
     "the [guide].} {\"I want to go home,\" said [n].|\"I cannot find my house,\" said [n].} {\"I know the way. Come with me,\" "
     "said the [guide].|\"Do not be afraid. I will show you,\" said the [guide].}\n"
     "They went {over the bridge|along the river|past the old well|down the hill} and came to [n]'s house. {[His] [p] stood at "
     "the door.|There was a light in the window.} {\"There you are!\" said [his] [p].|[His] [p] ran to [him] and hugged [him].} "
     "{[N] turned around to say thank you, but the [guide] was gone.|\"Thank you!\" [n] said to the [guide].|[N] gave the "
     "[guide] a~ [food].} {After that, [n] never went so far alone.|It was good to be home.|[N] never forgot the [guide].}",
     {"Question: Who showed [n] the way?\nAnswer: The [guide] showed [n] the way.",
      "Question: Who was at home?\nAnswer: [His] [p] was at home.", "Question: Was [n] lost?\nAnswer: Yes, [n] was lost."}},

    // A quarrel about a thing.
    {"{[N] and [friend] found a~ [c] [game] [at].|There was a~ [c] [game] [out1]. [N] and [friend] both saw it.} \"It is mine!\" "
     "said [n]. \"No, it is mine!\" said [f]. {They pulled and pulled.|They were both angry.|[N] pulled, and [f] pulled, too.} "
     "{Neither of them wanted to let go.|Then [f] fell down and cried.|[N] began to shout.}\n"
     "[His] [p] {came and saw them|heard them and came|walked by}. {\"What is going on here?\" [phe] asked.|\"Why do you "
     "fight?\" [phe] asked.} {\"We both want the [game],\" said [n].|\"[N] will not give me the [game],\" said [f].} {\"You can "
     "take turns,\" said [P].|\"It is more fun to play together,\" said [P].} {They thought about it.|They looked down.|}\n"
     "\"{You can go first|You can have it first}, [f],\" said [n]. \"I am sorry.\" \"{I am sorry, too|It is all right},\" said "
     "[f]. So [f] had the [game] first, and then it was [n]'s turn. {It was much more fun.|They did not fight any more.|They "
     "played and laughed.} {[P] smiled.|They were friends again.|Friends are more important than any toy.}",
     {"Question: What did they both want?\nAnswer: They both wanted the [game].",
      "Question: Who had the [game] first?\nAnswer: [F] had the [game] first.",
      "Question: Did they say sorry?\nAnswer: Yes, [n] said sorry."}},
};

std::string story_of(const Plot& plot, Slots& s, std::mt19937_64& random) {
    size_t a = 2 + pick_index(random, 5), b = 2 + pick_index(random, 5), give = 2 + pick_index(random, a + b - 3);
    s["a"] = number_word(a);
    s["b"] = number_word(b);
    s["sum"] = number_word(a + b);
    s["give"] = number_word(give);
    s["rest"] = number_word(a + b - give);
    bool with_friend = plot.knows_friend && pick_index(random, 2) == 0;
    // The first mention of the friend in the plot itself.
    s["friend"] = with_friend ? s["f"] : s["his"] + " friend " + s["f"];
    std::string story = with_friend ? pick(random, openings_with_friend) : pick(random, openings);
    story += ' ';
    story += plot.story;
    return expand(story, s, random);
}

}  // namespace

std::string sample_story(std::mt19937_64& random) {
    Slots s;
    add_people(s, random);
    add_things(s, random);
    const Plot& plot = pick(random, plots);
    std::string story = story_of(plot, s, random);
    if (pick_index(random, 3) > 0) return story;
    story += '\n';
    story += expand(pick(random, plot.questions), s, random);
    return story;
}

}  // namespace vkqat
