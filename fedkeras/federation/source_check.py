"""Server and clients say whether they mean the same data set, in the configuration of every message of a run."""

from collections.abc import Mapping

from fedkeras import data
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientRequest

DATA_SET = "data-set"
DATA_FORM = "data-form"
"""Keys of a message's configuration."""


def message_config(config: Config) -> Mapping[str, str]:
    """What the server says of its data set, which it has opened. Raises UserError where it cannot be."""
    if not config.deals:
        return {DATA_FORM: data.form_of(config).to_json()}
    return {DATA_SET: data.identity_of(config).to_json()}


def check(request: ClientRequest) -> None:
    """Raise UserError if this client has another data set than the server says that it has."""
    config = request.config
    if not config.uses_catalogue:
        return
    if not config.deals:
        _check_form(request)
        return
    text = request.sent.get(DATA_SET)
    if text is None:
        return
    theirs, mine = data.SourceIdentity.from_json(text), data.identity_of(config)
    if difference := mine.difference(theirs):
        where = f"from {config.data_dir}" if config.data_dir else "without a --data-dir"
        mine_from, theirs_from = (f" ({each.origin})" if each.origin else "" for each in (mine, theirs))
        raise UserError(
            f"--dataset {config.dataset} is another here, {where}{mine_from}, than at the server{theirs_from}: "
            f"{difference}; give this client's --data-dir the server's files (who has files of its own takes "
            "--partitioner own)"
        )


def _check_form(request: ClientRequest) -> None:
    """The same where each client brings a file of its own: it is another one, of the same form."""
    text = request.sent.get(DATA_FORM)
    if text is None:
        return
    mine = data.form_of(request.config)
    if difference := mine.difference(data.DataForm.from_json(text)):
        raise UserError(f"--data {request.config.dataset} is not of the form of the server's data set: {difference}")
