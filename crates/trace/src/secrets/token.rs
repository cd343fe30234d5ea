//! Tokens that tell by themselves what they are.

use super::MASK;

/// Their beginnings, and the fewest characters behind.
const TOKENS: [(&str, usize); 27] = [
    ("hf_", 12),
    ("AKIA", 12),
    ("ASIA", 12),
    ("sk-", 16),
    ("sk_live_", 16),
    ("rk_live_", 16),
    ("ghp_", 16),
    ("gho_", 16),
    ("ghu_", 16),
    ("ghs_", 16),
    ("ghr_", 16),
    ("github_pat_", 16),
    ("glpat-", 16),
    ("nvapi-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("xoxa-", 16),
    ("xoxs-", 16),
    ("xapp-", 16),
    ("gsk_", 32),
    ("npm_", 32),
    ("pypi-", 64),
    ("dckr_pat_", 16),
    ("hvs.", 20),
    ("AIza", 32),
    ("ya29.", 20),
    ("eyJ", 40),
];

/// Appends the text with its tokens masked. Looks at each byte a few times.
pub(super) fn mask(text: &str, masked: &mut String) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (piece, behind) = rest.split_at(end);
        let is_token = TOKENS
            .iter()
            .any(|(begin, more)| piece.starts_with(begin) && piece.len() >= begin.len() + more);
        masked.push_str(if is_token { MASK } else { piece });
        let next = behind.find(is_part).unwrap_or(behind.len());
        masked.push_str(&behind[..next]);
        rest = &behind[next..];
    }
}
