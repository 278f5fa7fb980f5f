//! The words of a code and of a fingerprint: short, common and inoffensive, and told apart by their first four letters.

/// Every word that a code may have, in alphabetical order.
///
/// Four letters are enough to name one, no slip of a single letter makes one into another, and a test holds both.
#[rustfmt::skip]
pub(super) static WORDS: [&str; 1296] = [
    "absorb", "acting", "actor", "adapt", "adjust", "admire", "adobe", "adult", "advice", "aerial", "afford", "agile",
    "agree", "airport", "alarm", "album", "alcove", "alert", "algebra", "almond", "alpaca", "alpine", "already",
    "amaze", "amber", "amount", "amuse", "anchor", "ancient", "angel", "animal", "ankle", "answer", "antenna", "anthem",
    "antique", "anvil", "apple", "apron", "arcade", "arch", "arctic", "arena", "aroma", "arrange", "arrive", "artist",
    "ascend", "astute", "athlete", "atlas", "atom", "attach", "attend", "attic", "attract", "auburn", "auction", "aura",
    "author", "autumn", "avenue", "average", "avocado", "avoid", "awake", "award", "awesome", "awning", "axis",
    "baboon", "baby", "badge", "bagel", "baker", "balance", "balcony", "ballad", "bamboo", "banana", "banjo", "bank",
    "banner", "banquet", "barber", "barley", "barn", "barrel", "basic", "basket", "bath", "battery", "beam", "beaver",
    "bedroom", "beehive", "beetle", "belong", "bench", "benefit", "bicycle", "biology", "birch", "bird", "biscuit",
    "bison", "blade", "blanket", "blimp", "blink", "block", "bloom", "blossom", "bluff", "boat", "bobbin", "bobcat",
    "body", "boil", "bold", "bonfire", "bongo", "bonnet", "bonus", "bookend", "boost", "booth", "borrow", "bottle",
    "bounce", "bracket", "brain", "bramble", "branch", "brass", "brave", "breeze", "bridge", "brief", "bright", "brisk",
    "broad", "bronze", "brook", "brother", "brush", "bubble", "bucket", "buddy", "budget", "buffalo", "bugle", "bulb",
    "bulldog", "bumper", "bundle", "bunny", "burger", "burlap", "bustle", "busy", "button", "buzz", "cabbage", "cabin",
    "cactus", "cafe", "calcium", "calf", "camel", "campus", "canal", "candle", "canoe", "canyon", "capsule", "captain",
    "caravan", "carbon", "card", "career", "cargo", "caribou", "carol", "carpet", "carry", "cartoon", "cascade",
    "cashew", "castle", "casual", "catch", "catfish", "cedar", "celery", "cello", "ceramic", "chain", "chalk",
    "chamber", "channel", "chapter", "charm", "cheddar", "cheek", "cherry", "chess", "chicken", "child", "chimney",
    "chip", "chisel", "chive", "choice", "chorus", "chowder", "chrome", "chuckle", "cider", "cinema", "circle",
    "citadel", "citizen", "citrus", "city", "civic", "claim", "class", "clean", "clerk", "clever", "cliff", "climate",
    "clinic", "closet", "cloth", "cloud", "clove", "clown", "club", "cluster", "coach", "cobalt", "cobbler", "cobra",
    "cocoa", "code", "coffee", "collar", "colt", "column", "combine", "comedy", "comfort", "condor", "cookie", "copper",
    "copy", "corgi", "cork", "corner", "cosmic", "costume", "cottage", "cougar", "couple", "courage", "cousin",
    "cowboy", "coyote", "crab", "cradle", "craft", "crane", "crater", "crawl", "crayon", "cream", "crest", "cricket",
    "crimson", "crisp", "crop", "crowd", "crumb", "crunch", "crystal", "cuddle", "culture", "cupcake", "curious",
    "curve", "cushion", "custard", "cyan", "cycle", "dahlia", "daisy", "dance", "dapper", "darling", "dazzle", "decade",
    "decor", "deep", "delight", "delta", "denim", "dentist", "depth", "derby", "design", "desk", "detect", "develop",
    "device", "dial", "diamond", "diary", "digital", "dime", "dimple", "diner", "diploma", "disco", "display",
    "distant", "divide", "dizzy", "doctor", "dodge", "doll", "dolphin", "domain", "domino", "donate", "donkey",
    "double", "dove", "dozen", "dragon", "drama", "draw", "dress", "drift", "drill", "drink", "drizzle", "drum", "dune",
    "duplex", "duty", "dynamic", "eager", "eagle", "early", "earring", "earth", "easel", "east", "ebony", "echo",
    "ecology", "economy", "edge", "edit", "educate", "elastic", "elbow", "elder", "elegant", "emblem", "embrace",
    "emerald", "emperor", "empire", "empty", "emulate", "enable", "enamel", "endless", "energy", "engine", "enigma",
    "enjoy", "enough", "enrich", "entry", "envy", "epic", "escape", "essay", "estate", "eternal", "evening", "example",
    "excite", "exhibit", "exotic", "expand", "export", "extra", "eyebrow", "fabric", "face", "faculty", "falcon",
    "fall", "family", "famous", "fancy", "fanfare", "fantasy", "farm", "fathom", "fawn", "feature", "feed", "felt",
    "fence", "fern", "ferret", "fetch", "fiction", "field", "fiesta", "fifteen", "figure", "film", "filter", "final",
    "firefly", "first", "fish", "flag", "flannel", "flash", "fleece", "flex", "flight", "flint", "flip", "floor",
    "flow", "fluffy", "fluid", "focus", "folder", "foliage", "folk", "forest", "fortune", "forum", "fossil", "frame",
    "freckle", "free", "freight", "fresh", "friend", "frog", "frolic", "frost", "frozen", "fruit", "fudge", "fuel",
    "furnace", "furry", "future", "fuzzy", "gadget", "galaxy", "gallery", "game", "garage", "garden", "garlic",
    "garment", "garnet", "gather", "gecko", "general", "genius", "gentle", "genuine", "geology", "gesture", "giant",
    "gift", "giggle", "ginger", "giraffe", "give", "glacier", "glad", "glance", "gleam", "gleeful", "glimpse",
    "glisten", "glitter", "globe", "glory", "glue", "goal", "goblet", "golden", "gondola", "good", "goose", "gopher",
    "gosling", "gown", "grand", "grape", "gravel", "green", "griddle", "grin", "grocery", "groom", "ground", "grow",
    "guard", "guava", "guess", "guide", "guitar", "gulf", "gumbo", "gusto", "gymnast", "habit", "halo", "hamlet",
    "hammer", "hamster", "hand", "happy", "harmony", "harp", "harvest", "hawk", "hazel", "heater", "heaven", "height",
    "helium", "helmet", "help", "hero", "herring", "hickory", "hidden", "high", "hiking", "hill", "hippo", "history",
    "hobby", "hockey", "holiday", "hollow", "home", "honest", "hoof", "horizon", "horn", "host", "house", "hover",
    "huge", "human", "hundred", "husky", "hybrid", "iceberg", "icicle", "icing", "idea", "igloo", "image", "immune",
    "improve", "inch", "indeed", "indigo", "inlet", "insect", "inside", "inspire", "intact", "invent", "invite", "iron",
    "island", "isolate", "italic", "ivory", "jacket", "jade", "jaguar", "javelin", "jazz", "jelly", "jigsaw", "join",
    "joke", "journal", "jubilee", "judo", "juggle", "juice", "jump", "jute", "karate", "kayak", "keen", "kettle",
    "keynote", "kidney", "kilo", "kingdom", "kitchen", "kite", "kitten", "kiwi", "knee", "knock", "label", "ladder",
    "ladle", "lady", "lagoon", "lamb", "lantern", "laptop", "large", "lark", "laser", "laugh", "laundry", "laurel",
    "lava", "leader", "leaf", "league", "learn", "leash", "leather", "leave", "lecture", "legend", "legume", "leisure",
    "lemon", "lemur", "length", "lens", "lentil", "leopard", "letter", "level", "library", "life", "lilac", "lily",
    "limit", "linen", "lion", "liquid", "list", "little", "lizard", "llama", "load", "lobster", "locust", "lofty",
    "logic", "logo", "long", "loop", "lotion", "lottery", "lotus", "lounge", "loyal", "lucky", "luggage", "lullaby",
    "lunar", "lupine", "luxury", "lyric", "machine", "magenta", "magic", "magnet", "magpie", "make", "mallard", "mambo",
    "mammal", "manage", "mango", "mansion", "manual", "maple", "marble", "margin", "marina", "market", "marmot",
    "maroon", "marvel", "mascot", "mason", "matrix", "matter", "meadow", "mellow", "melody", "member", "memory", "menu",
    "merge", "mermaid", "merry", "message", "meteor", "mimic", "mimosa", "mineral", "mingle", "mini", "miracle",
    "mirror", "mobile", "modern", "moment", "monarch", "monitor", "month", "moon", "morsel", "mosaic", "motel", "motor",
    "motto", "movie", "muffin", "museum", "music", "mustang", "myth", "nacho", "napkin", "narrow", "nature", "neat",
    "nebula", "neck", "nectar", "needle", "neon", "nephew", "nerve", "network", "neutral", "nibble", "nickel", "nine",
    "noble", "noise", "nomad", "noodle", "normal", "north", "notch", "novel", "nozzle", "nugget", "number", "nurse",
    "nutmeg", "nylon", "oasis", "oatmeal", "oats", "obey", "object", "oblong", "ocean", "octagon", "olive", "olympic",
    "onion", "onset", "onyx", "opal", "open", "opera", "opinion", "orange", "orbit", "orchard", "organ", "orient",
    "origin", "oriole", "ornate", "ostrich", "outback", "outdoor", "outer", "outfit", "outlet", "owner", "oxford",
    "oxygen", "oyster", "ozone", "pacific", "pack", "pagoda", "palace", "palm", "pancake", "panda", "panel", "pansy",
    "panther", "parade", "parcel", "parka", "parrot", "parsley", "party", "passage", "pasta", "patrol", "pattern",
    "peacock", "peanut", "pebble", "pecan", "pelican", "pencil", "pendant", "penguin", "penny", "people", "pepper",
    "perfect", "perky", "petal", "phoenix", "phone", "photo", "phrase", "piano", "pickle", "picnic", "picture",
    "pigeon", "piglet", "pilgrim", "pinball", "pint", "pioneer", "pipe", "piston", "pivot", "pixel", "pizza", "planet",
    "plaster", "plate", "play", "plaza", "plenty", "pluck", "plum", "plush", "podium", "poem", "polka", "pollen",
    "pony", "popcorn", "poppy", "popular", "portal", "potato", "pouch", "pound", "powder", "prance", "price", "prism",
    "promise", "prune", "pudding", "pulley", "pulp", "pulse", "puma", "pumpkin", "pupil", "puppet", "pure", "purple",
    "pyramid", "python", "quail", "quality", "quantum", "quarry", "queen", "quest", "quick", "quilt", "quince",
    "quiver", "quiz", "quote", "rabbit", "radar", "radio", "rainbow", "raisin", "rally", "random", "rapid", "rare",
    "rattle", "raven", "ravine", "razor", "ready", "recall", "recipe", "record", "recycle", "redwood", "refresh",
    "region", "remind", "repair", "repeat", "replace", "reptile", "rescue", "respect", "reward", "rich", "ride",
    "rinse", "ripple", "river", "robe", "robin", "robot", "rock", "rodeo", "romance", "rooster", "rotate", "rowboat",
    "rubber", "ruby", "rudder", "ruffle", "ruler", "runner", "rustic", "saddle", "safari", "safety", "saga", "sailor",
    "salad", "salmon", "salsa", "salt", "salute", "sample", "sandal", "sapling", "sardine", "satin", "scale", "scan",
    "scarf", "scatter", "scenic", "scholar", "scoop", "scout", "scrap", "screen", "script", "scroll", "scuba",
    "seabird", "seagull", "second", "seek", "seesaw", "sesame", "seven", "shadow", "shallow", "shampoo", "shape",
    "shark", "shawl", "shed", "sheep", "shelf", "shield", "shimmer", "shine", "short", "shovel", "show", "shrimp",
    "shrub", "shuffle", "shut", "sierra", "sign", "silk", "silly", "silver", "siren", "sister", "size", "skate",
    "sketch", "skill", "skip", "skirt", "sleet", "slice", "slipper", "slogan", "slope", "small", "smart", "smile",
    "smooth", "snack", "snail", "snake", "sneaker", "snooze", "snorkel", "snug", "soap", "soccer", "soda", "soft",
    "solo", "solve", "sorbet", "south", "soybean", "spaniel", "spare", "spatula", "speed", "spell", "sphere", "spider",
    "spike", "spin", "spiral", "splash", "split", "sponge", "spoon", "spray", "spread", "spring", "sprout", "spruce",
    "square", "squeak", "squid", "stadium", "stage", "stamp", "stand", "station", "stencil", "stereo", "stick", "stir",
    "stool", "stop", "storm", "stove", "straw", "stream", "studio", "sturdy", "subway", "sudden", "sugar", "suit",
    "summer", "sunbeam", "sundown", "sunrise", "super", "sushi", "sweater", "swift", "swim", "tabby", "tablet",
    "tackle", "taco", "tadpole", "taffy", "talent", "tandem", "tangent", "target", "task", "tassel", "taste", "tavern",
    "taxi", "teapot", "tell", "temper", "tender", "tennis", "terrace", "thank", "thatch", "thaw", "theme", "thermal",
    "thick", "thimble", "thin", "thistle", "thread", "thrill", "throw", "thumb", "thunder", "ticket", "tidy", "tiger",
    "tight", "tilt", "timber", "timid", "tinsel", "tiptoe", "titan", "title", "toast", "toddler", "token", "tomato",
    "tone", "tonight", "topaz", "topic", "topple", "torch", "toucan", "tour", "toward", "tower", "tractor", "trade",
    "traffic", "trail", "tray", "trek", "trellis", "tremor", "trend", "trigger", "trinket", "trio", "trivia", "trolley",
    "trophy", "trot", "trumpet", "trunk", "tube", "tuck", "tugboat", "tulip", "tuna", "tundra", "tunnel", "turbine",
    "turkey", "turn", "turtle", "tutor", "tuxedo", "tweed", "twelve", "twenty", "twice", "twig", "twinkle", "twirl",
    "twist", "ultra", "uncle", "under", "unfold", "unicorn", "uniform", "unlock", "unveil", "upbeat", "uphill", "valve",
    "vanilla", "variety", "vault", "vector", "velvet", "vessel", "vibrant", "victory", "video", "view", "villa",
    "vinegar", "vintage", "violet", "vista", "vivid", "voice", "volcano", "volley", "vote", "voyage", "waffle", "wagon",
    "walk", "wallaby", "walnut", "walrus", "waltz", "warbler", "wave", "weekend", "welcome", "west", "wetland",
    "whimsy", "whisk", "wicker", "wild", "willow", "window", "wink", "winter", "wire", "wisdom", "witty", "wobble",
    "wolf", "wombat", "wool", "word", "woven", "year", "yodel", "yoga", "young", "yummy", "zebra", "zenith", "zesty",
    "zigzag", "zinc", "zodiac", "zoology", "zoom",
];

/// A fingerprint as words that people can compare: 62 bits of it, so that nobody makes another one of the same words.
pub fn fingerprint_words(fingerprint: &[u8; 32]) -> String {
    let [start @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = *fingerprint;
    let mut rest = u128::from_be_bytes(start);
    let count = WORDS.len() as u128;
    let mut words = [""; FINGERPRINT_WORDS];
    for word in &mut words {
        *word = WORDS[(rest % count) as usize];
        rest /= count;
    }
    words.join("-")
}

const FINGERPRINT_WORDS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_fingerprint_has_six_words_which_each_of_its_first_bits_changes() {
        let fingerprint = [0x5a; 32];
        let words = fingerprint_words(&fingerprint);
        assert_eq!(words.split('-').count(), 6);
        assert_eq!(words, fingerprint_words(&fingerprint), "they stay the same");
        let changed = (64..128).filter(|bit| {
            let mut other = fingerprint;
            other[bit / 8] ^= 0x80 >> (bit % 8);
            fingerprint_words(&other) != words
        });
        assert_eq!(changed.count(), 64);
    }

    #[test]
    fn there_are_six_to_the_fourth_words_in_strict_order() {
        assert_eq!(WORDS.len(), 6usize.pow(4));
        assert!(WORDS.is_sorted_by(|one, next| one < next));
        for word in ["amber", "canoe", "lentil"] {
            assert!(WORDS.binary_search(&word).is_ok());
        }
    }

    #[test]
    fn every_word_has_four_to_seven_small_letters() {
        for word in WORDS {
            assert!((4..=7).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase()), "{word}");
        }
    }

    #[test]
    fn four_letters_tell_every_word() {
        let starts: HashSet<_> = WORDS.iter().map(|word| &word[..4]).collect();
        assert_eq!(starts.len(), WORDS.len());
    }

    #[test]
    fn no_slip_of_one_letter_makes_one_word_into_another() {
        let all: HashSet<&str> = WORDS.into_iter().collect();
        for word in WORDS {
            let slips = slips(word);
            assert!(slips.len() > 4 * 26, "every kind of slip is tried");
            let other = slips.iter().find(|slip| *slip != word && all.contains(slip.as_str()));
            assert_eq!(other, None, "a slip in {word}");
        }
    }

    #[test]
    fn no_word_stands_beside_its_plural() {
        let all: HashSet<&str> = WORDS.into_iter().collect();
        let plurals = |word: &str| [format!("{word}s"), format!("{word}es"), format!("{}ies", &word[..word.len() - 1])];
        let found: Vec<_> = WORDS.iter().flat_map(|word| plurals(word)).filter(|word| all.contains(&**word)).collect();
        assert_eq!(found, [""; 0]);
    }

    /// The word with a letter put in, put for another, left out, or swapped with its neighbour.
    fn slips(word: &str) -> Vec<String> {
        let bytes = word.as_bytes();
        let mut slips = Vec::new();
        for at in 0..=bytes.len() {
            for letter in b'a'..=b'z' {
                slips.push([&bytes[..at], &[letter], &bytes[at..]].concat());
                if at < bytes.len() {
                    slips.push([&bytes[..at], &[letter], &bytes[at + 1..]].concat());
                }
            }
            if at < bytes.len() {
                slips.push([&bytes[..at], &bytes[at + 1..]].concat());
            }
            if at + 1 < bytes.len() {
                let mut swapped = bytes.to_vec();
                swapped.swap(at, at + 1);
                slips.push(swapped);
            }
        }
        slips.into_iter().map(|slip| String::from_utf8(slip).unwrap()).collect()
    }
}
