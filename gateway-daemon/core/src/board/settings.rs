//! Plain settings of the board: no TOML, no defaults, every value checked.

/// Longest line that every firmware reads as one: "There is a 98-character line length limit" (`what_is_config_txt.adoc`). What comes behind it is cut, or a line of its own
/// (raspberrypi/firmware 1669).
pub const LINE_MAX: usize = 98;

/// Longest overlay with its parameters: what is left of a line behind `dtoverlay=`.
pub const OVERLAY_BYTES_MAX: usize = LINE_MAX - "dtoverlay=".len();

/// Most overlays: a board has 28 pins to give.
pub const OVERLAYS_MAX: usize = 16;

/// The first and the last further UART that an overlay brings.
pub const UARTS: std::ops::RangeInclusive<u8> = 2..=5;

/// Clock chips that the overlay `i2c-rtc` knows and that are sold as modules, with what they are.
pub const CLOCKS: [&str; 8] =
    ["ds1307", "ds3231", "pcf8523", "pcf8563", "pcf85063a", "rv3028", "rv3032", "mcp7940x"];

/// What is fitted to the board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Overlays in the order of the file, at most [`OVERLAYS_MAX`].
    pub overlays: Vec<Overlay>,
    /// Numbers of further UARTs, of [`UARTS`], each once.
    pub uarts: Vec<u8>,
    /// Whether the I2C bus on pins 3 and 5 stays off.
    pub i2c_off: bool,
    /// Whether the SPI bus on pins 19, 21, 23, 24 and 26 stays off.
    pub spi_off: bool,
    /// Whether pin 7 is a 1-Wire bus.
    pub one_wire: bool,
    /// The clock chip on the I2C bus.
    pub clock: Option<Clock>,
}

/// One of [`CLOCKS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock(&'static str);

impl Clock {
    /// The chip of this name, if it is known.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        CLOCKS.into_iter().find(|known| *known == name).map(Self)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// An overlay with its parameters, as behind `dtoverlay=`: `sc16is752-spi1,int_pin=24`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay(Box<str>);

/// Why a text is no overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadOverlay {
    /// There is none, or something before it.
    Name,
    /// A parameter without a name.
    Parameter,
    /// A character that has no place there.
    Character(char),
    /// It has so many characters.
    Long(usize),
}

impl Overlay {
    /// Checks a text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, BadOverlay> {
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        // Numbers, paths and names of the device tree. `:` would begin the next parameter, and a blank the next word.
        let of_value = |c: char| of_name(c) || matches!(c, '.' | '/' | '+' | '@');
        if let Some(other) = text.chars().find(|c| !of_value(*c) && !matches!(c, ',' | '=')) {
            return Err(BadOverlay::Character(other));
        }
        let mut words = text.split(',');
        let name = words.next().unwrap_or_default();
        if name.is_empty() || name.starts_with('-') || !name.chars().all(of_name) {
            return Err(BadOverlay::Name);
        }
        for word in words {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if name.is_empty() || !name.chars().all(of_name) {
                return Err(BadOverlay::Parameter);
            }
            if value.contains('=') {
                return Err(BadOverlay::Character('='));
            }
        }
        if text.len() > OVERLAY_BYTES_MAX {
            return Err(BadOverlay::Long(text.len()));
        }
        Ok(Self(text.into()))
    }

    /// As it stands in a line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its name alone.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split(',').next().unwrap_or_default()
    }
}
