//! One phone in its notations: Twilio may list a message under another one than it was sent to.
//!
//! Takes addresses as Twilio writes them, gives whether two are one phone, and every way in which an
//! address may be listed. Pure. Three plans have two notations for one mobile phone: Mexico's 1 after
//! the country code, Argentina's 9 there (or the 15 that is dialled at home), Brazil's ninth digit.
//! An address that is no number is only ever itself.

/// Whether two addresses are one phone.
pub fn is_same(one: &str, other: &str) -> bool {
    match (digits(one), digits(other)) {
        (Some(one), Some(other)) => shortest(&one) == shortest(&other),
        _ => one.trim() == other.trim(),
    }
}

/// The ways in which an address may be listed, as it is written first.
pub fn notations(address: &str) -> Vec<String> {
    let mut all = vec![address.to_owned()];
    let Some(digits) = digits(address) else { return all };
    let channel = channel(address);
    let short = shortest(&digits);
    for number in [longest(&short), short] {
        let notation = format!("{channel}+{number}");
        if !all.contains(&notation) {
            all.push(notation);
        }
    }
    all
}

/// Country code and number without anything between them; none for what is no number.
fn digits(address: &str) -> Option<String> {
    let number = &address[channel(address).len()..];
    let mut digits = String::with_capacity(number.len());
    for letter in number.chars() {
        match letter {
            '0'..='9' => digits.push(letter),
            '+' | '-' | '.' | '(' | ')' | '/' => {}
            _ if letter.is_whitespace() => {}
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some(digits)
}

/// `whatsapp:` or nothing, as the address begins.
fn channel(address: &str) -> &str {
    const WHATSAPP: &str = "whatsapp:";
    match address.get(..WHATSAPP.len()) {
        Some(start) if start.eq_ignore_ascii_case(WHATSAPP) => start,
        _ => "",
    }
}

/// The notation without the digits that only some write.
fn shortest(digits: &str) -> String {
    let plan = [mexico as fn(&str) -> Option<String>, argentina, brazil];
    plan.into_iter().find_map(|shorten| shorten(digits)).unwrap_or_else(|| digits.to_owned())
}

/// The notation with those digits, from the one without.
fn longest(short: &str) -> String {
    let (country, number) = short.split_at(short.len().min(2));
    match (country, number.len()) {
        ("52", 10) => format!("521{number}"),
        ("54", 10) => format!("549{number}"),
        ("55", 10) if had_eight_digits(&number[2..]) => {
            format!("55{}9{}", &number[..2], &number[2..])
        }
        _ => short.to_owned(),
    }
}

/// +52 1 and ten digits, as it was until 2019.
fn mexico(digits: &str) -> Option<String> {
    let number = digits.strip_prefix("521").filter(|number| number.len() == 10)?;
    Some(format!("52{number}"))
}

/// +54 9 and ten digits, and with the 15 of a call at home between area and number.
fn argentina(digits: &str) -> Option<String> {
    let national = digits.strip_prefix("54")?;
    let number = match national.strip_prefix('9') {
        Some(mobile) if mobile.len() >= 10 => mobile,
        _ => national,
    };
    match number.len() {
        10 => Some(format!("54{number}")),
        // Buenos Aires is the one area of two digits.
        12 => {
            let areas = if number.starts_with("11") { 2..=2 } else { 3..=4 };
            areas.into_iter().find_map(|area| {
                let (area, rest) = number.split_at(area);
                Some(format!("54{area}{}", rest.strip_prefix("15")?))
            })
        }
        _ => None,
    }
}

/// +55, an area of two digits, and the 9 that mobile phones got in front of eight digits.
fn brazil(digits: &str) -> Option<String> {
    let national = digits.strip_prefix("55").filter(|national| national.len() == 11)?;
    let (area, number) = national.split_at(2);
    let number = number.strip_prefix('9').filter(|number| had_eight_digits(number))?;
    Some(format!("55{area}{number}"))
}

/// Whether a mobile phone had these eight digits before there were nine: the others are fixed
/// lines, and mobile phones that always had nine.
fn had_eight_digits(number: &str) -> bool {
    number.starts_with(['6', '7', '8', '9'])
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::{is_same, notations};

    #[test]
    fn the_notations_of_three_plans_are_one_phone() {
        for (one, other) in [
            ("whatsapp:+5215512345678", "whatsapp:+525512345678"),
            ("whatsapp:+5491123456789", "whatsapp:+541123456789"),
            ("whatsapp:+5491123456789", "whatsapp:+54111523456789"),
            ("whatsapp:+5492214567890", "whatsapp:+54221154567890"),
            ("whatsapp:+5492944567890", "whatsapp:+54294415567890"),
            ("whatsapp:+5531987654321", "whatsapp:+553187654321"),
        ] {
            assert!(is_same(one, other) && is_same(other, one), "{one} {other}");
        }
    }

    #[test]
    fn how_a_number_is_written_says_nothing() {
        let number = "whatsapp:+14155238886";
        for other in [
            "whatsapp: 14155238886",
            "WhatsApp:+1 (415) 523-8886",
            "+1.415.523.8886",
            "14155238886",
        ] {
            assert!(is_same(number, other), "{other}");
        }
    }

    #[test]
    fn other_phones_are_others() {
        for (one, other) in [
            ("whatsapp:+5215512345678", "whatsapp:+525512345679"),
            // A fixed line of São Paulo, and a mobile phone that always had nine digits.
            ("whatsapp:+551132345678", "whatsapp:+5511932345678"),
            // No number of Mexico, Argentina or Brazil has so many digits.
            ("whatsapp:+521551234567", "whatsapp:+52551234567"),
            ("whatsapp:+5219", "whatsapp:+529"),
            ("whatsapp:+1", "whatsapp:+2"),
            ("whatsapp:", "whatsapp:+"),
        ] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_number_is_only_itself() {
        let hidden = "whatsapp:US.4155238886";
        assert!(is_same(hidden, hidden) && !is_same(hidden, "whatsapp:+4155238886"));
        assert_eq!(notations(hidden), [hidden]);
    }

    #[test]
    fn a_message_is_looked_for_in_each_notation_as_it_was_sent_first() {
        for (sent, all) in [
            ("whatsapp:+5215512345678", vec!["whatsapp:+525512345678"]),
            ("whatsapp:+525512345678", vec!["whatsapp:+5215512345678"]),
            ("whatsapp:+5491123456789", vec!["whatsapp:+541123456789"]),
            ("whatsapp:+5531987654321", vec!["whatsapp:+553187654321"]),
            ("whatsapp:+553187654321", vec!["whatsapp:+5531987654321"]),
            ("whatsapp:+551132345678", vec![]),
            ("whatsapp:+14155238886", vec![]),
            ("whatsapp:+54111523456789", vec!["whatsapp:+5491123456789", "whatsapp:+541123456789"]),
        ] {
            assert_eq!(notations(sent)[0], sent);
            assert_eq!(notations(sent)[1..], all, "{sent}");
        }
    }

    proptest! {
        #[test]
        fn every_notation_of_an_address_is_the_same_phone(address in "(whatsapp:)?\\PC{0,20}") {
            for notation in notations(&address) {
                prop_assert!(is_same(&address, &notation), "{address} {notation}");
            }
        }

        #[test]
        fn every_notation_of_a_number_is_the_same_phone(digits in "(52|54|55)[0-9]{8,13}") {
            let address = format!("whatsapp:+{digits}");
            for notation in notations(&address) {
                prop_assert!(is_same(&address, &notation), "{address} {notation}");
                for other in notations(&address) {
                    prop_assert!(is_same(&notation, &other), "{notation} {other}");
                }
            }
        }
    }
}
