//! The texts of a page, each in every language.

/// `texts! { /// Doc. struct Name { key: "English", "Français"; … } }` makes a struct with a field for each text, and
/// `Name::of(locale)`.
macro_rules! texts {
    ($(#[$doc:meta])* struct $name:ident { $($key:ident: $en:literal, $fr:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        struct $name {
            $($key: &'static str,)+
        }

        impl $name {
            const EN: Self = Self { $($key: $en,)+ };
            const FR: Self = Self { $($key: $fr,)+ };

            /// The texts in a language.
            const fn of(locale: hookyard_domain::person::Locale) -> &'static Self {
                match locale {
                    hookyard_domain::person::Locale::En => &Self::EN,
                    hookyard_domain::person::Locale::Fr => &Self::FR,
                }
            }
        }
    };
}
