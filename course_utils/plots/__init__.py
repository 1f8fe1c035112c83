"""Pictures: arrays or a record in, Axes out. No model, no training, no `plt.show()` inside."""
