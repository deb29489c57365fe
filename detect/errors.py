"""What a user can mend. The command line prints these messages alone, without a traceback, and exits with 2."""


class UserError(Exception):
    """Something that the user can mend; the message names the file or key, the value and what is legal."""


class ConfigError(UserError):
    """A key, a value or a combination of them that the configuration does not allow."""


class DataError(UserError):
    """An image, annotation or data set that can't be used."""


class WeightsError(UserError):
    """A checkpoint, run folder or weight file that can't be used."""
