"""What a run leaves behind, and what is seen of it meanwhile.

    run_folder history checkpoints summary log      its files
    choices                                         what no setting said and the run decided
    predictions label_counts                        for confusion matrix and label distribution
    recorder                                        the callback that writes them
    resuming                                        --resume
    trackers tensorboard mlflow metrics_exporter    where else figures go

    terminal live live_state live_table             a run on the terminal
    live_report                                     the same as a page that reloads itself
    progress_bar progress_table round_lines own_part    a client's own progress and rounds, and those of all clients

    headline timing client_figures                  what stands for a run, where its time went
    fairness                                        how far apart the clients are, beside every mean over them
    divergence                                      a run whose loss is no number any more
    run report run_page comparison page             one run and several as an HTML page
    server_view                                     what the server saw of clients' data
    simulated_time                                  figures against simulated seconds, and whose work was in time
    local_page                                      a training without federation as a page
    charts grids axes colours curves                its pictures
    model_comparison                                models side by side on one test set
    listing                                         all runs in a folder
    text_table                                      aligned columns that fit a terminal
    export                                          a history as a table by round, or as Flower's lists

Knows neither TensorFlow nor Flower nor gRPC, and nothing of the way to train.
"""

from fedkeras.reports.checkpoints import Checkpoint, Checkpoints
from fedkeras.reports.choices import Choices
from fedkeras.reports.comparison import write_comparison
from fedkeras.reports.curves import plot_curves
from fedkeras.reports.divergence import DIVERGED, diverged_since, no_result
from fedkeras.reports.history import History, read_history, read_rows
from fedkeras.reports.label_counts import write_label_counts
from fedkeras.reports.log import show_warnings, start_log, stop_log
from fedkeras.reports.page import ReportSection, section
from fedkeras.reports.predictions import write_predictions
from fedkeras.reports.recorder import Recorder
from fedkeras.reports.report import write_report
from fedkeras.reports.run_folder import RunFolder, create_run_folder, held
from fedkeras.reports.summary import summarise
from fedkeras.reports.trackers import check_extras

__all__ = [
    "DIVERGED",
    "Checkpoint",
    "Checkpoints",
    "Choices",
    "History",
    "Recorder",
    "ReportSection",
    "RunFolder",
    "check_extras",
    "create_run_folder",
    "diverged_since",
    "held",
    "no_result",
    "plot_curves",
    "read_history",
    "read_rows",
    "section",
    "show_warnings",
    "start_log",
    "stop_log",
    "summarise",
    "write_comparison",
    "write_label_counts",
    "write_predictions",
    "write_report",
]
