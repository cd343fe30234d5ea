//! The operators of C++, by their two letters.

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) code: [u8; 2],
    /// With a space behind it where an operand needs one.
    pub(super) text: &'static str,
    pub(super) operands: u8,
}

impl Operator {
    pub(super) fn of_code(code: [u8; 2]) -> Option<&'static Self> {
        let at = OPERATORS.binary_search_by(|operator| operator.code.cmp(&code)).ok()?;
        OPERATORS.get(at)
    }

    pub(super) fn is(&self, code: [u8; 2]) -> bool {
        self.code == code
    }

    /// `static_cast` and the like.
    pub(super) fn is_named_cast(&self) -> bool {
        matches!(&self.code, b"cc" | b"dc" | b"rc" | b"sc")
    }

    pub(super) fn is_fold(&self) -> bool {
        self.code[0] == b'f'
    }
}

const fn operator(code: [u8; 2], text: &'static str, operands: u8) -> Operator {
    Operator { code, text, operands }
}

/// By code.
static OPERATORS: &[Operator] = &[
    operator(*b"aN", "&=", 2),
    operator(*b"aS", "=", 2),
    operator(*b"aa", "&&", 2),
    operator(*b"ad", "&", 1),
    operator(*b"an", "&", 2),
    operator(*b"at", "alignof ", 1),
    operator(*b"aw", "co_await ", 1),
    operator(*b"az", "alignof ", 1),
    operator(*b"cc", "const_cast", 2),
    operator(*b"cl", "()", 2),
    operator(*b"cm", ",", 2),
    operator(*b"co", "~", 1),
    operator(*b"dV", "/=", 2),
    operator(*b"dX", "[...]=", 3),
    operator(*b"da", "delete[] ", 1),
    operator(*b"dc", "dynamic_cast", 2),
    operator(*b"de", "*", 1),
    operator(*b"di", "=", 2),
    operator(*b"dl", "delete ", 1),
    operator(*b"ds", ".*", 2),
    operator(*b"dt", ".", 2),
    operator(*b"dv", "/", 2),
    operator(*b"dx", "]=", 2),
    operator(*b"eO", "^=", 2),
    operator(*b"eo", "^", 2),
    operator(*b"eq", "==", 2),
    operator(*b"fL", "...", 3),
    operator(*b"fR", "...", 3),
    operator(*b"fl", "...", 2),
    operator(*b"fr", "...", 2),
    operator(*b"ge", ">=", 2),
    operator(*b"gs", "::", 1),
    operator(*b"gt", ">", 2),
    operator(*b"ix", "[]", 2),
    operator(*b"lS", "<<=", 2),
    operator(*b"le", "<=", 2),
    operator(*b"li", "operator\"\" ", 1),
    operator(*b"ls", "<<", 2),
    operator(*b"lt", "<", 2),
    operator(*b"mI", "-=", 2),
    operator(*b"mL", "*=", 2),
    operator(*b"mi", "-", 2),
    operator(*b"ml", "*", 2),
    operator(*b"mm", "--", 1),
    operator(*b"na", "new[]", 3),
    operator(*b"ne", "!=", 2),
    operator(*b"ng", "-", 1),
    operator(*b"nt", "!", 1),
    operator(*b"nw", "new", 3),
    operator(*b"nx", "noexcept", 1),
    operator(*b"oR", "|=", 2),
    operator(*b"oo", "||", 2),
    operator(*b"or", "|", 2),
    operator(*b"pL", "+=", 2),
    operator(*b"pl", "+", 2),
    operator(*b"pm", "->*", 2),
    operator(*b"pp", "++", 1),
    operator(*b"ps", "+", 1),
    operator(*b"pt", "->", 2),
    operator(*b"qu", "?", 3),
    operator(*b"rM", "%=", 2),
    operator(*b"rS", ">>=", 2),
    operator(*b"rc", "reinterpret_cast", 2),
    operator(*b"rm", "%", 2),
    operator(*b"rs", ">>", 2),
    operator(*b"sP", "sizeof...", 1),
    operator(*b"sZ", "sizeof...", 1),
    operator(*b"sc", "static_cast", 2),
    operator(*b"ss", "<=>", 2),
    operator(*b"st", "sizeof ", 1),
    operator(*b"sz", "sizeof ", 1),
    operator(*b"tr", "throw", 0),
    operator(*b"tw", "throw ", 1),
];
