//! Types and names of the standard library that a mangled name has a letter for.

use super::tree::{
    Builtin,
    LiteralStyle::{self, Bool, Bytes, Cast, Suffix, Void},
};

const fn builtin(name: &'static str, literal: LiteralStyle) -> Builtin {
    Builtin { name, literal }
}

pub(super) static NULLPTR: Builtin = builtin("decltype(nullptr)", Cast);

pub(super) static BFLOAT16: Builtin = builtin("std::bfloat16_t", Bytes);

pub(super) fn of_letter(letter: u8) -> Option<&'static Builtin> {
    static BUILTINS: [Builtin; 22] = [
        builtin("signed char", Cast),
        builtin("bool", Bool),
        builtin("char", Cast),
        builtin("double", Bytes),
        builtin("long double", Bytes),
        builtin("float", Bytes),
        builtin("__float128", Bytes),
        builtin("unsigned char", Cast),
        builtin("int", Suffix("")),
        builtin("unsigned int", Suffix("u")),
        builtin("long", Suffix("l")),
        builtin("unsigned long", Suffix("ul")),
        builtin("__int128", Cast),
        builtin("unsigned __int128", Cast),
        builtin("short", Cast),
        builtin("unsigned short", Cast),
        builtin("void", Void),
        builtin("wchar_t", Cast),
        builtin("long long", Suffix("ll")),
        builtin("unsigned long long", Suffix("ull")),
        builtin("...", Cast),
        builtin("", Cast),
    ];
    const LETTERS: &[u8; 21] = b"abcdefghijlmnostvwxyz";
    let at = LETTERS.iter().position(|known| *known == letter)?;
    BUILTINS.get(at)
}

/// Behind a `D`.
pub(super) fn of_second_letter(letter: u8) -> Option<&'static Builtin> {
    static BUILTINS: [Builtin; 7] = [
        builtin("decimal64", Cast),
        builtin("decimal128", Cast),
        builtin("decimal32", Cast),
        builtin("half", Bytes),
        builtin("char32_t", Cast),
        builtin("char16_t", Cast),
        builtin("char8_t", Cast),
    ];
    const LETTERS: &[u8; 7] = b"defhisu";
    match letter {
        b'n' => Some(&NULLPTR),
        _ => BUILTINS.get(LETTERS.iter().position(|known| *known == letter)?),
    }
}

/// The text of a name of `std`, and what its constructor is called.
pub(super) fn standard_name(letter: u8) -> Option<(&'static str, Option<&'static str>)> {
    Some(match letter {
        b't' => ("std", None),
        b'a' => ("std::allocator", Some("allocator")),
        b'b' => ("std::basic_string", Some("basic_string")),
        b's' => (
            "std::basic_string<char, std::char_traits<char>, std::allocator<char> >",
            Some("basic_string"),
        ),
        b'i' => ("std::basic_istream<char, std::char_traits<char> >", Some("basic_istream")),
        b'o' => ("std::basic_ostream<char, std::char_traits<char> >", Some("basic_ostream")),
        b'd' => ("std::basic_iostream<char, std::char_traits<char> >", Some("basic_iostream")),
        _ => return None,
    })
}
