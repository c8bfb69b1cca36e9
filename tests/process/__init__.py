"""The service's programs as they are started, with what is really behind them."""
