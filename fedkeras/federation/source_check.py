"""Server and clients say whether they mean the same data set, in the configuration of every message of a run."""

from collections.abc import Mapping

from fedkeras import data
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.requests import ClientRequest

DATA_SET = "data-set"
"""Key of a message's configuration."""


def message_config(config: Config) -> Mapping[str, str]:
    """What the server says of its data set, which it has opened. Raises UserError where it cannot be."""
    return {DATA_SET: data.identity_of(config).to_json()}


def check(request: ClientRequest) -> None:
    """Raise UserError if this client has another data set than the server says that it has."""
    text, config = request.sent.get(DATA_SET), request.config
    if text is None or not config.uses_catalogue:
        return
    theirs, mine = data.SourceIdentity.from_json(text), data.identity_of(config)
    if difference := mine.difference(theirs):
        where = f"from {config.data_dir}" if config.data_dir else "without a --data-dir"
        mine_from, theirs_from = (f" ({each.origin})" if each.origin else "" for each in (mine, theirs))
        raise UserError(
            f"--dataset {config.dataset} is another here, {where}{mine_from}, than at the server{theirs_from}: "
            f"{difference}; give this client's --data-dir the server's files (who has files of its own takes "
            "--data-source client)"
        )
