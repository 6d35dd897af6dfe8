//! How French sounds: words with a value from −4 to 4, as VADER has them for English, made for what customers write.

use std::{collections::HashMap, sync::LazyLock};

use rust_stemmers::{Algorithm, Stemmer};

use crate::offline::words::Word;

/// Value, and the words that have it. They are looked up by their stem, so that one form stands for all.
const VALUES: [(f64, &[&str]); 7] = [
    (
        3.2,
        &[
            "excellent",
            "parfait",
            "parfaite",
            "adorer",
            "adore",
            "génial",
            "géniale",
            "magnifique",
            "merveilleux",
            "merveilleuse",
            "exceptionnel",
            "exceptionnelle",
            "formidable",
            "fantastique",
            "impeccable",
            "superbe",
            "extraordinaire",
            "remarquable",
            "enchanté",
            "enchantée",
            "ravi",
            "ravie",
            "bravo",
            "fabuleux",
        ],
    ),
    (
        2.2,
        &[
            "bon",
            "bonne",
            "aimer",
            "aime",
            "content",
            "contente",
            "heureux",
            "heureuse",
            "satisfait",
            "satisfaite",
            "satisfaction",
            "satisfaisant",
            "super",
            "top",
            "agréable",
            "sympathique",
            "sympa",
            "efficace",
            "félicitations",
            "féliciter",
            "recommander",
            "recommande",
            "apprécier",
            "apprécie",
            "apprécié",
            "qualité",
            "réussi",
            "réussite",
            "succès",
            "beau",
            "belle",
            "joli",
            "plaisir",
            "professionnel",
            "professionnelle",
            "réactif",
            "réactive",
            "réactivité",
            "fiable",
            "aimable",
            "chaleureux",
            "gentil",
            "gentille",
            "convaincu",
            "idéal",
            "idéale",
            "meilleur",
            "meilleure",
            "confiance",
            "génie",
        ],
    ),
    (
        1.4,
        &[
            "merci",
            "remercier",
            "remercie",
            "bien",
            "facile",
            "facilement",
            "simple",
            "rapide",
            "rapidement",
            "clair",
            "claire",
            "utile",
            "pratique",
            "intuitif",
            "intuitive",
            "correct",
            "disponible",
            "aide",
            "aidé",
            "espoir",
            "positif",
            "positive",
            "résolu",
            "résoudre",
            "améliorer",
            "amélioration",
            "intéressant",
            "fluide",
            "propre",
            "soigné",
            "accueillant",
        ],
    ),
    (
        -1.2,
        &[
            "problème",
            "difficile",
            "difficulté",
            "lent",
            "lente",
            "lenteur",
            "compliqué",
            "compliquée",
            "cher",
            "chère",
            "attente",
            "retard",
            "manque",
            "manquer",
            "absent",
            "oublier",
            "oublié",
            "dommage",
            "malheureusement",
            "hélas",
            "peine",
            "doute",
            "confus",
            "flou",
            "bruyant",
            "insuffisant",
            "moyen",
            "fatigue",
            "inquiet",
            "inquiète",
            "annuler",
            "annulé",
            "perdre",
            "perdu",
            "perte",
            "plainte",
            "réclamation",
            "bloqué",
            "bloquer",
            "erreur",
            "incorrect",
            "faux",
        ],
    ),
    (
        -2.0,
        &[
            "mauvais",
            "mauvaise",
            "mal",
            "déçu",
            "déçue",
            "décevant",
            "décevante",
            "déception",
            "insatisfait",
            "insatisfaite",
            "mécontent",
            "mécontente",
            "panne",
            "bug",
            "bogue",
            "planter",
            "plante",
            "échec",
            "échouer",
            "échoue",
            "cassé",
            "cassée",
            "défectueux",
            "défectueuse",
            "défaut",
            "incompétent",
            "incompétence",
            "désagréable",
            "impoli",
            "frustrant",
            "frustration",
            "frustré",
            "énervé",
            "énervant",
            "agacé",
            "agaçant",
            "inutile",
            "inutilisable",
            "négatif",
            "négative",
            "regretter",
            "regrette",
            "triste",
            "colère",
            "ennuyeux",
            "pire",
            "sale",
            "froid",
            "refuser",
            "ignorer",
            "ignoré",
            "injoignable",
            "surfacturé",
            "abusif",
            "abus",
        ],
    ),
    (
        -2.8,
        &[
            "nul",
            "nulle",
            "horrible",
            "affreux",
            "affreuse",
            "terrible",
            "inacceptable",
            "inadmissible",
            "lamentable",
            "pitoyable",
            "médiocre",
            "scandaleux",
            "scandaleuse",
            "honteux",
            "honteuse",
            "honte",
            "furieux",
            "furieuse",
            "détester",
            "déteste",
            "catastrophique",
            "exécrable",
            "insupportable",
            "ridicule",
        ],
    ),
    (
        -3.4,
        &[
            "catastrophe",
            "arnaque",
            "escroquerie",
            "escroc",
            "voleur",
            "cauchemar",
            "désastre",
            "désastreux",
            "désastreuse",
        ],
    ),
];

/// What turns a value round when it stands up to three words before. `pas` stands after its verb.
const NEGATIONS: [&str; 10] =
    ["pas", "jamais", "aucun", "aucune", "sans", "ni", "plus", "guère", "nullement", "point"];

/// What strengthens the word behind it.
const BOOSTERS: [&str; 14] = [
    "très",
    "trop",
    "vraiment",
    "extrêmement",
    "totalement",
    "complètement",
    "tellement",
    "si",
    "absolument",
    "particulièrement",
    "fort",
    "hyper",
    "ultra",
    "tout",
];
/// What weakens it.
const DAMPENERS: [&str; 6] = ["peu", "assez", "plutôt", "légèrement", "presque", "moins"];

/// VADER's constants.
const BOOST: f64 = 0.293;
const TURN: f64 = -0.74;
const ALPHA: f64 = 15.0;

static LEXICON: LazyLock<HashMap<String, f64>> = LazyLock::new(|| {
    let stemmer = Stemmer::create(Algorithm::French);
    let mut lexicon = HashMap::new();
    for (value, words) in VALUES {
        for word in words {
            lexicon.entry(stemmer.stem(word).into_owned()).or_insert(value);
        }
    }
    lexicon
});

/// From −1 to 1.
pub(crate) fn score(words: &[Word<'_>]) -> f64 {
    let mut values: Vec<(usize, f64)> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some(value) = LEXICON.get(&word.stem) else { continue };
        let before = &words[at.saturating_sub(3)..at];
        let nearest = before.last().map(|word| &*word.lower);
        let mut value = *value;
        if nearest.is_some_and(|word| BOOSTERS.contains(&word)) {
            value += BOOST * value.signum() * 2.0;
        } else if nearest.is_some_and(|word| DAMPENERS.contains(&word)) {
            value -= BOOST * value.signum() * 2.0;
        }
        if before.iter().any(|word| NEGATIONS.contains(&&*word.lower)) {
            value *= TURN;
        }
        values.push((at, value));
    }
    // After "mais" comes what is meant.
    if let Some(but) = words.iter().position(|word| word.lower == "mais") {
        for (at, value) in &mut values {
            *value *= if *at < but { 0.5 } else { 1.5 };
        }
    }
    let sum: f64 = values.iter().map(|(_, value)| value).sum();
    sum / (sum * sum + ALPHA).sqrt()
}
