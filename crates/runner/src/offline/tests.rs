use std::time::{Duration, Instant};

use super::analyse;

const FIRST_LINE: &str = "Offline analysis (no language model was used)";

fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// Zap 1 of source 1: sentiment and topics of an e-mail, for a row in a sheet.
#[test]
fn an_email_is_analysed() {
    let email = "Hi team,\n\nI have been using the reporting dashboard for two months. The dashboard itself is great and easy \
        to use, I love the new charts. But the CSV export is broken: the export fails every time with a timeout, which is \
        really frustrating. Support was friendly and quick to answer, but could not fix the export.\n\nBest regards,\nMaria Lopez";
    let analysis = analyse("Email analysis", &format!("Analyze sentiment, extract topics:\n\n{email}"));
    holds(
        &analysis.result,
        &[
            "Language: English",
            "Sentiment: mixed",
            "Most positive: “",
            "Most negative: “",
            "Topics: ",
            "export",
            "dashboard",
        ],
    );
    assert!(analysis.result.starts_with(FIRST_LINE));
    assert!(!analysis.result.contains("Suggested reply"), "{}", analysis.result);
    holds(&analysis.summary, &["Sentiment: mixed", "export"]);
}

/// Zap 2 of source 1: a support form, for a Slack channel.
#[test]
fn a_support_request_is_sorted_and_a_reply_suggested() {
    let form = "Name: Tom Baker\nEmail: tom@example.com\nMessage: I was charged twice for invoice INV-20418 this month. This is \
        unacceptable and I am very angry, please refund the second payment of $49.00 immediately!";
    let analysis = analyse("Customer support triage", &format!("Categorize issue, suggest response: {form}"));
    holds(
        &analysis.result,
        &[
            FIRST_LINE,
            "Category: billing",
            "Urgency: high",
            "Suggested team: billing",
            "Sentiment: negative",
            "Suggested reply",
            "Hello Tom Baker,",
            "we are sorry",
            "INV-20418",
        ],
    );
    holds(&analysis.summary, &["billing, urgency high"]);
}

/// Zap 3 of source 1: a document, for a page in Notion.
#[test]
fn a_document_is_summarised() {
    let document = "Remote Work Policy\n\nThis policy describes how employees of the company may work remotely. Employees may work \
        remotely up to three days a week, after their manager has agreed. The office kitchen was painted last year. Remote work \
        requires a secure connection and a company laptop. Managers review remote work agreements every six months. Some people \
        like coffee. Employees who work remotely must be reachable between ten and four. The policy takes effect on March 1, 2026. \
        Questions about the remote work policy go to the people team.";
    let analysis = analyse("Summarize document", document);
    holds(&analysis.result, &[FIRST_LINE, "Key points:\n- "]);
    let points = analysis.result.lines().filter(|line| line.starts_with("- ")).count();
    assert!((2..=5).contains(&points), "{}", analysis.result);
    assert!(analysis.result.to_lowercase().contains("remote"), "{}", analysis.result);
    assert!(
        !analysis.result.contains("coffee") && !analysis.result.contains("kitchen"),
        "{}",
        analysis.result
    );
    assert!(!analysis.result.contains("Sentiment"), "{}", analysis.result);
}

/// The body of source 1, with what its user has put in the place of the placeholder.
#[test]
fn the_quick_start_s_feedback_gives_what_it_promises() {
    let feedback = "The pricing is too high for small teams and the pricing page is confusing. We really need better reporting \
        features, reporting is a pain. On the bright side, customer support is excellent: fast, friendly and helpful!";
    let description = format!("Analyze the following customer feedback and summarize key points: {feedback}");
    let analysis = analyse("Analyze customer feedback", &description);
    holds(&analysis.result, &["pricing", "reporting", "customer support", "Key points:", "Sentiment: "]);
    let verbatim = "Analyze the following customer feedback and summarize key points: {{feedback_text}}";
    assert!(analyse("Analyze customer feedback", verbatim).result.starts_with(FIRST_LINE));
}

#[test]
fn french_texts_have_french_results() {
    let avis = "Bonjour,\nMa commande n° 20418 est arrivée en retard et le produit est cassé. Je suis très déçue par la \
        livraison. Je demande un remboursement immédiatement.\nCordialement,\nÉlodie Martin";
    let analysis =
        analyse("Tri du support", &format!("Classez cette demande et rédigez une réponse :\n{avis}"));
    holds(
        &analysis.result,
        &[
            "Analyse hors ligne (aucun modèle de langage n'a été utilisé)",
            "Langue: français",
            "Urgence: haute",
            "Sentiment: négatif",
            "Bonjour Élodie Martin,",
            "20418",
        ],
    );
    let resume = analyse("Note", &format!("Résumez en une phrase : {avis}"));
    holds(&resume.result, &["Points clés:\n- "]);
    assert_eq!(resume.result.lines().filter(|line| line.starts_with("- ")).count(), 1, "{}", resume.result);
}

#[test]
fn details_are_extracted() {
    let text =
        "Extract all e-mail addresses, dates and amounts: Pay $120.00 to billing@example.com by 2026-03-01.";
    holds(&analyse("x", text).result, &["billing@example.com", "2026-03-01", "$120.00"]);
}

#[test]
fn the_same_text_gives_the_same_result() {
    let text =
        "Summarize: ".to_owned() + &"Alpha beats beta. Gamma likes delta. Beta and delta meet. ".repeat(20);
    let first = analyse("t", &text);
    for _ in 0..20 {
        assert_eq!(analyse("t", &text), first);
    }
}

#[test]
fn no_text_is_too_strange_or_takes_too_long() {
    let started = Instant::now();
    let everything = "Analyze sentiment, topics, summarize, categorize, suggest a reply, extract dates and e-mail addresses: ";
    for text in [
        String::new(),
        " ".repeat(100_000),
        "a".repeat(100_000),
        "a ".repeat(50_000),
        "a@".repeat(50_000),
        "1 2 3 4 ".repeat(12_500),
        "great not ".repeat(10_000),
        "the shit is never so great at least ".repeat(2_700),
        "😀😡".repeat(25_000),
        "\u{202e}\u{0}\u{feff}\n\r\t".repeat(10_000),
        "我很高兴。这个产品很好。".repeat(8_000),
        "http://".repeat(14_000),
        "```".repeat(30_000),
        "\"“«".repeat(30_000),
        "One two three. ".repeat(6_600),
        (0..12_000).map(|n| format!("w{n} x{n}. ")).collect(),
        "İ my name is ".repeat(5_000),
    ] {
        let analysis = analyse("All of it", &format!("{everything}{text}"));
        assert!(analysis.result.contains('\n'));
        assert!(analysis.result.len() < 200_000);
    }
    // Unoptimised and next to other tests; a quadratic step would take minutes.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

/// Run by hand, with `--release -- --ignored --nocapture`: how long a page of four kilobytes takes.
#[test]
#[ignore = "a measurement"]
fn a_page_takes_less_than_three_milliseconds() {
    let page = "The new dashboard is great, but the export fails every time and support is slow to answer. "
        .repeat(45);
    let text = format!(
        "Analyze sentiment, extract topics, summarize, categorize and suggest a response: {}",
        &page[..4_000]
    );
    let _warm = analyse("warm", &text);
    let started = Instant::now();
    for _ in 0..200 {
        std::hint::black_box(analyse("t", &text));
    }
    let each = started.elapsed() / 200;
    println!("{each:?} each");
    assert!(each < Duration::from_millis(3), "{each:?}");
}
